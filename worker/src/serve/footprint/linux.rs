//! The footprint on Linux, from `/proc/self/status`.
//!
//! Anonymous pages resident plus swapped (zram included) is what macOS calls footprint: the memory that only this
//! process's end, or its own freeing, gives back. `smaps_rollup` would say the same after walking every page table,
//! which costs tens of milliseconds at 35 GB.

use crate::board::Footprint;

pub(super) fn read() -> Footprint {
    std::fs::read_to_string("/proc/self/status").map(|text| parse(&text)).unwrap_or_default()
}

fn parse(text: &str) -> Footprint {
    let bytes = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim_end().parse().ok()?;
        kibibytes.checked_mul(1024)
    };
    let total_bytes = bytes("RssAnon").map(|resident| resident + bytes("VmSwap").unwrap_or(0));
    Footprint { total_bytes, locked_bytes: bytes("VmLck"), ..Footprint::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resident_and_swapped_are_added() {
        let text = "Name:\tx\nVmLck:\t    2048 kB\nRssAnon:\t     100 kB\nRssFile:\t 900 kB\nVmSwap:\t      20 kB\n";
        let footprint = parse(text);
        assert_eq!((footprint.total_bytes, footprint.locked_bytes), (Some(120 << 10), Some(2 << 20)));
    }

    #[test]
    fn what_is_missing_or_odd_is_absent() {
        assert_eq!(parse(""), Footprint::default());
        assert_eq!(parse("RssAnon: many kB\n").total_bytes, None);
    }
}
