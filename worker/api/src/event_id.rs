//! The `id:` line of a link event: `<choice>:<tokens so far>:<comma-separated new ids>`.

use std::fmt;
use std::str::FromStr;

/// Which tokens an event carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventId {
    /// Index of the choice.
    pub choice: u32,
    /// Tokens of this choice after this event, the new ones included.
    pub tokens: u32,
    /// Ids that are new with this event, oldest first; empty for events that carry only text or usage.
    pub new_ids: Vec<u32>,
}

/// Why an `id:` line was not understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadEventId(String);

impl fmt::Display for BadEventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is not <choice>:<tokens>:<ids>", self.0)
    }
}

impl std::error::Error for BadEventId {}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:", self.choice, self.tokens)?;
        for (index, id) in self.new_ids.iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            write!(f, "{id}")?;
        }
        Ok(())
    }
}

impl FromStr for EventId {
    type Err = BadEventId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || BadEventId(text.to_owned());
        let mut parts = text.splitn(3, ':');
        let mut next = || parts.next().ok_or_else(bad);
        let choice = next()?.parse().map_err(|_| bad())?;
        let tokens = next()?.parse().map_err(|_| bad())?;
        let ids = next()?;
        let new_ids = if ids.is_empty() {
            Vec::new()
        } else {
            ids.split(',').map(|id| id.parse().map_err(|_| bad())).collect::<Result<_, _>>()?
        };
        Ok(Self { choice, tokens, new_ids })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form_round_trips() {
        for text in ["0:0:", "0:1:7", "3:12:1,2,4294967295"] {
            assert_eq!(text.parse::<EventId>().map(|id| id.to_string()).as_deref(), Ok(text));
        }
    }

    #[test]
    fn malformed_ids_are_refused() {
        for text in ["", "0", "0:1", "a:1:2", "0:1:2,", "0:-1:", "0:1:4294967296"] {
            assert!(text.parse::<EventId>().is_err(), "{text:?} was accepted");
        }
    }
}
