//! Reading little-endian GGUF fields from a stream under a byte limit.

use std::io::{self, Read};
use std::path::Path;

use super::{GgufError, MAX_ARRAY, MAX_DIMENSIONS, MAX_STRING, TensorInfo, TensorType, Value};

/// Elements reserved ahead of reading, so that a lying count costs no memory.
const RESERVE_AHEAD: u64 = 4096;

/// A stream that knows its position and never reads past its limit.
pub(super) struct Reader<'p, R> {
    input: R,
    position: u64,
    limit: u64,
    path: &'p Path,
}

impl<'p, R: Read> Reader<'p, R> {
    pub(super) fn new(input: R, limit: u64, path: &'p Path) -> Self {
        Self { input, position: 0, limit, path }
    }

    pub(super) const fn position(&self) -> u64 {
        self.position
    }

    pub(super) fn damaged(&self, what: String) -> GgufError {
        GgufError::Damaged { path: self.path.to_owned(), what }
    }

    fn fill(&mut self, buffer: &mut [u8]) -> Result<(), GgufError> {
        let end = self.position.saturating_add(buffer.len() as u64);
        if end > self.limit {
            return Err(self.damaged(format!("its header does not end within {} bytes", self.limit)));
        }
        self.input.read_exact(buffer).map_err(|source| match source.kind() {
            io::ErrorKind::UnexpectedEof => self.damaged(format!("it ends at byte {}, inside its header", self.limit)),
            _ => GgufError::Io { path: self.path.to_owned(), source },
        })?;
        self.position = end;
        Ok(())
    }

    pub(super) fn bytes<const N: usize>(&mut self) -> Result<[u8; N], GgufError> {
        let mut buffer = [0; N];
        self.fill(&mut buffer)?;
        Ok(buffer)
    }

    pub(super) fn u32(&mut self) -> Result<u32, GgufError> {
        self.bytes().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, GgufError> {
        self.bytes().map(u64::from_le_bytes)
    }

    /// A number of `what`, at most `most`.
    pub(super) fn count(&mut self, what: &str, most: u64) -> Result<u64, GgufError> {
        let count = self.u64()?;
        if count > most {
            return Err(self.damaged(format!("it claims {count} {what}; at most {most} are accepted")));
        }
        Ok(count)
    }

    pub(super) fn string(&mut self) -> Result<String, GgufError> {
        let length = self.count("bytes in one string", MAX_STRING)?;
        // Checked before allocating: a short file must not cost 16 MiB per string.
        if self.position.saturating_add(length) > self.limit {
            return Err(self.damaged(format!("a string at byte {} reaches past its end", self.position)));
        }
        let length = usize::try_from(length).map_err(|_| self.damaged(format!("a string of {length} bytes")))?;
        let mut buffer = vec![0; length];
        self.fill(&mut buffer)?;
        Ok(String::from_utf8(buffer).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
    }

    pub(super) fn value(&mut self, key: &str) -> Result<Value, GgufError> {
        let kind = self.u32()?;
        match kind {
            4 | 0 | 2 | 10 => self.unsigned(kind).map(Value::Unsigned),
            1 | 3 | 5 | 11 => self.signed(kind).map(Value::Signed),
            6 | 12 => self.float(kind).map(Value::Float),
            7 => self.bool().map(Value::Bool),
            8 => self.string().map(Value::Text),
            9 => self.array(key),
            other => Err(self.damaged(format!("the value of `{key}` has the unknown type {other}"))),
        }
    }

    #[allow(clippy::cast_possible_truncation, reason = "the narrower width is the one the format gives")]
    fn array(&mut self, key: &str) -> Result<Value, GgufError> {
        let kind = self.u32()?;
        let count = self.count("elements in one array", MAX_ARRAY)?;
        match kind {
            0 | 2 | 4 | 10 => self
                .elements(count, |reader| {
                    let number = reader.unsigned(kind)?;
                    i64::try_from(number).map_err(|_| reader.damaged(format!("`{key}` holds {number}")))
                })
                .map(Value::Integers),
            1 | 3 | 5 | 11 => self.elements(count, |reader| reader.signed(kind)).map(Value::Integers),
            6 | 12 => self.elements(count, |reader| Ok(reader.float(kind)? as f32)).map(Value::Floats),
            7 => self.elements(count, Self::bool).map(Value::Bools),
            8 => self.elements(count, Self::string).map(Value::Texts),
            other => Err(self.damaged(format!("the elements of `{key}` have the unsupported type {other}"))),
        }
    }

    fn elements<T>(
        &mut self,
        count: u64,
        mut read: impl FnMut(&mut Self) -> Result<T, GgufError>,
    ) -> Result<Vec<T>, GgufError> {
        let mut elements = Vec::with_capacity(usize::try_from(count.min(RESERVE_AHEAD)).unwrap_or(0));
        for _ in 0..count {
            elements.push(read(self)?);
        }
        Ok(elements)
    }

    fn unsigned(&mut self, kind: u32) -> Result<u64, GgufError> {
        match kind {
            0 => self.bytes::<1>().map(|[byte]| byte.into()),
            2 => self.bytes().map(|bytes| u16::from_le_bytes(bytes).into()),
            4 => self.u32().map(u64::from),
            _ => self.u64(),
        }
    }

    fn signed(&mut self, kind: u32) -> Result<i64, GgufError> {
        match kind {
            1 => self.bytes().map(|bytes| i8::from_le_bytes(bytes).into()),
            3 => self.bytes().map(|bytes| i16::from_le_bytes(bytes).into()),
            5 => self.bytes().map(|bytes| i32::from_le_bytes(bytes).into()),
            _ => self.bytes().map(i64::from_le_bytes),
        }
    }

    fn float(&mut self, kind: u32) -> Result<f64, GgufError> {
        match kind {
            6 => self.bytes().map(|bytes| f32::from_le_bytes(bytes).into()),
            _ => self.bytes().map(f64::from_le_bytes),
        }
    }

    fn bool(&mut self) -> Result<bool, GgufError> {
        self.bytes::<1>().map(|[byte]| byte != 0)
    }

    pub(super) fn tensor(&mut self) -> Result<TensorInfo, GgufError> {
        let name = self.string()?;
        let rank = self.u32()?;
        if rank > MAX_DIMENSIONS {
            return Err(self.damaged(format!("tensor `{name}` has {rank} dimensions")));
        }
        let mut dimensions = Vec::new();
        for _ in 0..rank {
            dimensions.push(self.u64()?);
        }
        let kind = TensorType(self.u32()?);
        let offset = self.u64()?;
        Ok(TensorInfo { name, dimensions, kind, offset })
    }
}
