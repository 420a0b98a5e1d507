//! The key file of the TCP listener: who is let in with which key, and as whom.
//!
//! Owns the file's format, every message about it, and the comparison of a presented key with all of them. A key is never
//! printed: not in messages, not by `Debug`. What a request without a good key is told is [`super::access`]'s part.
//!
//! ```text
//! # NAME KEY [max_class=normal] [max_active=4]
//! laptop 4f1c…e09a
//! nightly-batch 77aa…01bc max_class=batch max_active=2
//! ```

use std::fmt;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use subtle::{ConditionallySelectable, ConstantTimeEq};

use super::identity;
use crate::config::{ApiKeyFile, Config, Problem};
use crate::daemon::handle::Class;

/// Fewer characters could be guessed over a network.
pub const KEY_MIN: usize = 16;
/// More are no key; also what is compared at most.
pub const KEY_MAX: usize = 256;
/// Keys in one file.
const MOST_KEYS: usize = 1000;
/// Bytes of one file.
const MAX_FILE: u64 = 1 << 20;

/// Who a request belongs to, as far as shares and logs are concerned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// The key's name, else `uid:501` or `tcp:127.0.0.1`.
    pub name: String,
    /// Highest class its requests may claim; `None`: any.
    pub max_class: Option<Class>,
    /// Requests of it that may run at once; `None`: as many as the queue gives it.
    pub max_active: Option<u32>,
}

impl Principal {
    /// One without limits of its own.
    #[must_use]
    pub fn named(name: String) -> Self {
        Self { name, max_class: None, max_active: None }
    }

    /// The class that a request of this principal gets when it claims `class`.
    #[must_use]
    pub fn capped(&self, class: Class) -> Class {
        // Classes are ordered from the most urgent to the least.
        self.max_class.map_or(class, |most| class.max(most))
    }
}

/// How TCP clients are let in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Access {
    /// Not at all: the configuration has no TCP, or its keys cannot be used.
    #[default]
    Closed,
    /// `api_key_file = "none"`: programs of this machine, and no browser page.
    Keyless,
    /// By key.
    Keys(KeyRing),
}

impl Access {
    /// What the configuration asks for; reads the key file.
    ///
    /// # Errors
    /// Everything that is wrong with the file, each with what mends it.
    pub fn load(config: &Config, home: &Path) -> Result<Self, Vec<Problem>> {
        match (&config.listen.tcp, &config.listen.api_key_file) {
            (None, _) | (Some(_), None) => Ok(Self::Closed),
            (Some(_), Some(ApiKeyFile::Keyless)) => Ok(Self::Keyless),
            (Some(_), Some(ApiKeyFile::Path(path))) => {
                let path = home.join(path);
                KeyRing::read(&path).map(Self::Keys).map_err(|faults| {
                    let problem = |fault: Fault| config.source.problem("listen.api_key_file", fault.what, fault.hint);
                    faults.into_iter().map(problem).collect()
                })
            }
        }
    }
}

/// All keys of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRing(Vec<ApiKey>);

#[derive(Clone, PartialEq, Eq)]
struct ApiKey {
    secret: Padded,
    principal: Principal,
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiKey").field("principal", &self.principal).finish_non_exhaustive()
    }
}

/// A key at a fixed length, so that comparing two takes the same time whatever they are.
#[derive(Clone, PartialEq, Eq)]
struct Padded {
    bytes: Box<[u8; KEY_MAX]>,
    length: u64,
}

impl Padded {
    fn new(key: &[u8]) -> Self {
        let mut bytes = Box::new([0; KEY_MAX]);
        let kept = key.len().min(KEY_MAX);
        bytes[..kept].copy_from_slice(&key[..kept]);
        Self { bytes, length: key.len() as u64 }
    }
}

/// One thing that is wrong with a key file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    what: String,
    hint: String,
}

impl KeyRing {
    /// Whose key this is. Looks at every key, whether or not one has matched, in a time that tells nothing about them.
    #[must_use]
    pub fn find(&self, presented: &[u8]) -> Option<&Principal> {
        let presented = Padded::new(presented);
        let mut found = u64::MAX;
        for (index, key) in self.0.iter().enumerate() {
            let same = key.secret.bytes.ct_eq(presented.bytes.as_slice()) & key.secret.length.ct_eq(&presented.length);
            found.conditional_assign(&(index as u64), same);
        }
        usize::try_from(found).ok().and_then(|index| self.0.get(index)).map(|key| &key.principal)
    }

    /// How many there are.
    #[must_use]
    #[allow(clippy::len_without_is_empty, reason = "a file without keys is refused")]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    fn read(path: &Path) -> Result<Self, Vec<Fault>> {
        let bytes = read_private(path).map_err(|fault| vec![fault])?;
        Self::parse(&String::from_utf8_lossy(&bytes), path)
    }

    pub(super) fn parse(text: &str, path: &Path) -> Result<Self, Vec<Fault>> {
        let mut keys: Vec<(usize, ApiKey)> = Vec::new();
        let mut faults = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let number = index + 1;
            let known = |wanted: &dyn Fn(&ApiKey) -> bool| keys.iter().find(|(_, key)| wanted(key)).map(|(at, _)| *at);
            let read = match parse_line(line) {
                Ok(None) => continue,
                Ok(Some(key)) => match known(&|other| other.principal.name == key.principal.name) {
                    Some(at) => Err((format!("line {at} has the same name"), "give every key a name of its own")),
                    None => match known(&|other| other.secret == key.secret) {
                        Some(at) => Err((format!("line {at} has the same key"), "give every name a key of its own")),
                        None => Ok(key),
                    },
                },
                Err(fault) => Err(fault),
            };
            match read {
                Ok(key) => keys.push((number, key)),
                Err((what, hint)) => faults.push(Fault {
                    what: format!("line {number} of {}: {what}", path.display()),
                    hint: hint.to_owned(),
                }),
            }
        }
        if faults.is_empty() && !(1..=MOST_KEYS).contains(&keys.len()) {
            faults.push(Fault {
                what: format!("{} has {} keys", path.display(), keys.len()),
                hint: format!("write 1 to {MOST_KEYS} lines NAME KEY into it"),
            });
        }
        if faults.is_empty() { Ok(Self(keys.into_iter().map(|(_, key)| key).collect())) } else { Err(faults) }
    }
}

/// The file's bytes, if nobody else can read or change them.
fn read_private(path: &Path) -> Result<Vec<u8>, Fault> {
    let shown = path.display();
    let io = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => Fault {
            what: format!("there is no key file at {shown}"),
            hint: format!("make one: (umask 077; echo \"me $(openssl rand -hex 24)\" > {shown})"),
        },
        _ => Fault {
            what: format!("cannot read the key file {shown}: {error}"),
            hint: "make it a file that the daemon's user owns, with mode 0600".to_owned(),
        },
    };
    // A named pipe would otherwise keep the daemon waiting for a writer.
    let file = std::fs::OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)
        .map_err(io)?;
    let metadata = file.metadata().map_err(io)?;
    if !metadata.is_file() {
        return Err(io(std::io::Error::other("it is no regular file")));
    }
    if metadata.mode() & 0o077 != 0 {
        return Err(Fault {
            what: format!("others than its owner can get at {shown} (mode {:04o})", metadata.mode() & 0o7777),
            hint: format!("chmod 600 {shown}"),
        });
    }
    let us = nix::unistd::geteuid().as_raw();
    if metadata.uid() != us && metadata.uid() != 0 {
        return Err(Fault {
            what: format!("{shown} belongs to uid {}, who could change it", metadata.uid()),
            hint: format!("chown {us} {shown}"),
        });
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(io)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(io(std::io::Error::other("it is larger than 1 MiB")));
    }
    Ok(bytes)
}

const SHAPE: &str = "write NAME KEY [max_class=interactive|normal|batch] [max_active=N]";

/// One line; `None` for an empty one. Messages never repeat a word of it: any of them may be a key in the wrong place.
fn parse_line(line: &str) -> Result<Option<ApiKey>, (String, &'static str)> {
    let fail = |what: &str, hint| Err((what.to_owned(), hint));
    let mut words = line.split_whitespace().take_while(|word| !word.starts_with('#'));
    let Some(name) = words.next() else { return Ok(None) };
    let Some(key) = words.next() else { return fail("one word is not enough", SHAPE) };
    if !identity::is_well_formed(name) {
        return fail("the first word is no name", "a name has 1 to 64 of the characters A-Z a-z 0-9 . _ -");
    }
    if !key.bytes().all(|byte| byte.is_ascii_graphic()) {
        return fail("the key has other characters than visible ASCII", "make one with `openssl rand -hex 24`");
    }
    if !(KEY_MIN..=KEY_MAX).contains(&key.len()) {
        let what = format!("the key has {} characters; {KEY_MIN} to {KEY_MAX} are possible", key.len());
        return Err((what, "make one with `openssl rand -hex 24`"));
    }
    let mut principal = Principal::named(name.to_owned());
    for word in words {
        match word.split_once('=') {
            Some(("max_class", class)) if principal.max_class.is_none() => {
                principal.max_class = Some(match class {
                    "interactive" => Class::Interactive,
                    "normal" => Class::Normal,
                    "batch" => Class::Batch,
                    _ => return fail("max_class is none of interactive, normal and batch", SHAPE),
                });
            }
            Some(("max_active", number)) if principal.max_active.is_none() => match number.parse() {
                Ok(number) if number > 0 => principal.max_active = Some(number),
                _ => return fail("max_active is no whole number from 1 on", SHAPE),
            },
            Some(("max_class" | "max_active", _)) => return fail("the same is said twice", SHAPE),
            _ => return fail("something that is neither max_class=… nor max_active=… follows the key", SHAPE),
        }
    }
    Ok(Some(ApiKey { secret: Padded::new(key.as_bytes()), principal }))
}

#[cfg(test)]
mod tests;
