//! A configuration on its way through a recording: the file's own text, read again at the other end.

use std::path::PathBuf;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Config, Problem, parse};

#[derive(Serialize, Deserialize)]
struct Carried {
    file: PathBuf,
    text: String,
}

impl Serialize for Config {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let carried = Carried { file: self.source.file().to_owned(), text: self.source.text().to_owned() };
        carried.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Config {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Carried { file, text } = Carried::deserialize(deserializer)?;
        parse(&text, &file).map_err(|problems| {
            let lines: Vec<String> = problems.iter().map(Problem::one_line).collect();
            D::Error::custom(lines.join("; "))
        })
    }
}
