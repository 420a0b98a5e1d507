//! Typed access to a JSON body, where every mismatch names its field.

use std::fmt::Display;
use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use super::Refusal;

/// One JSON object with the path that leads to it.
pub(super) struct Fields<'a> {
    map: &'a Map<String, Value>,
    at: String,
}

impl<'a> Fields<'a> {
    /// The body itself.
    pub(super) fn body(value: &'a Value) -> Result<Self, Refusal> {
        let map =
            value.as_object().ok_or_else(|| Refusal::invalid_value("", "the request body must be a JSON object"))?;
        Ok(Self { map, at: String::new() })
    }

    /// An object inside: `at` is its path.
    pub(super) fn inside(value: &'a Value, at: String) -> Result<Self, Refusal> {
        match value.as_object() {
            Some(map) => Ok(Self { map, at }),
            None => Err(mismatch(&at, "an object", value)),
        }
    }

    /// The path of a field, as `param` names it.
    pub(super) fn path(&self, key: &str) -> String {
        if self.at.is_empty() { key.to_owned() } else { format!("{}.{key}", self.at) }
    }

    /// The value unless absent or null.
    pub(super) fn get(&self, key: &str) -> Option<&'a Value> {
        self.map.get(key).filter(|value| !value.is_null())
    }

    pub(super) fn string(&self, key: &str) -> Result<Option<&'a str>, Refusal> {
        self.typed(key, "a string", Value::as_str)
    }

    pub(super) fn boolean(&self, key: &str) -> Result<Option<bool>, Refusal> {
        self.typed(key, "true or false", Value::as_bool)
    }

    pub(super) fn array(&self, key: &str) -> Result<Option<&'a Vec<Value>>, Refusal> {
        self.typed(key, "an array", Value::as_array)
    }

    pub(super) fn object(&self, key: &str) -> Result<Option<&'a Map<String, Value>>, Refusal> {
        self.typed(key, "an object", Value::as_object)
    }

    /// A number within `range`.
    pub(super) fn number(&self, key: &str, range: RangeInclusive<f64>) -> Result<Option<f32>, Refusal> {
        let Some(number) = self.typed(key, "a number", Value::as_f64)? else { return Ok(None) };
        self.within(key, number, &range)?;
        Ok(Some(number as f32))
    }

    /// A whole number within `range`; `4.0` is one.
    pub(super) fn whole(&self, key: &str, range: RangeInclusive<i64>) -> Result<Option<i64>, Refusal> {
        let Some(number) = self.typed(key, "a whole number", whole)? else { return Ok(None) };
        self.within(key, number, &range)?;
        Ok(Some(number))
    }

    /// `message` about the field `key`.
    pub(super) fn refuse(&self, key: &str, message: impl Into<String>) -> Refusal {
        Refusal::invalid_value(&self.path(key), message)
    }

    fn typed<T>(&self, key: &str, wanted: &str, read: fn(&'a Value) -> Option<T>) -> Result<Option<T>, Refusal> {
        let Some(value) = self.get(key) else { return Ok(None) };
        read(value).map(Some).ok_or_else(|| mismatch(&self.path(key), wanted, value))
    }

    fn within<T: PartialOrd + Display + Copy>(
        &self,
        key: &str,
        number: T,
        range: &RangeInclusive<T>,
    ) -> Result<(), Refusal> {
        if range.contains(&number) {
            return Ok(());
        }
        let path = self.path(key);
        Err(Refusal::invalid_value(&path, format!("`{path}` is {number}; give {} to {}", range.start(), range.end())))
    }
}

/// A whole number that fits 64 bits with sign.
fn whole(value: &Value) -> Option<i64> {
    let fraction = || value.as_f64().filter(|f| f.fract() == 0.0 && f.abs() < 9e15).map(|f| f as i64);
    value.as_i64().or_else(fraction)
}

/// A value of another type than wanted. The value itself may be private, so only its type is told.
pub(super) fn mismatch(path: &str, wanted: &str, value: &Value) -> Refusal {
    let found = match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "another kind of number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    };
    Refusal::invalid_value(path, format!("`{path}` must be {wanted}, not {found}"))
}
