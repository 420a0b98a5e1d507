//! The words of `top`.

use std::time::Duration;

use clap::Args as ClapArgs;

use crate::config::parse_duration;

/// Asking more often shows nothing new: the daemon itself looks once a second, four times while a worker loads.
const INTERVAL_MIN: Duration = Duration::from_millis(200);

/// `top`.
#[derive(Debug, ClapArgs)]
pub struct TopArgs {
    /// Ask the daemon this often, at least every 200ms apart
    #[arg(short, long, value_name = "DURATION", default_value = "1s", value_parser = interval)]
    pub interval: Duration,
}

fn interval(text: &str) -> Result<Duration, String> {
    let interval = parse_duration(text).map_err(|error| error.to_string())?;
    if interval < INTERVAL_MIN {
        return Err(format!("`{text}` is too often; 200ms is the shortest"));
    }
    Ok(interval)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_has_a_unit_and_a_least_length() {
        assert_eq!(interval("200ms"), Ok(Duration::from_millis(200)));
        assert!(interval("199ms").is_err_and(|told| told.contains("200ms")));
        assert!(interval("1").is_err_and(|told| told.contains("no unit")));
    }
}
