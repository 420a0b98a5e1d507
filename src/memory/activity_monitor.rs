//! Activity Monitor's arithmetic over the Mach page counters, as pure functions.
//!
//! Owns the identities people know (Memory Used = App + Wired + Compressed). The calls that fetch the counters are
//! [`super::darwin`]'s affair, so this part is tested on every system.

use super::probe::HostReading;

/// The page counters of `vm_statistics64` we use; all in pages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Pages {
    /// Includes `speculative`: the kernel adds it.
    pub free: u64,
    /// Read ahead, not asked for yet.
    pub speculative: u64,
    /// May be thrown away at any time.
    pub purgeable: u64,
    /// Backed by files.
    pub external: u64,
    /// Anonymous and pageable; neither wired nor compressed pages are in it.
    pub internal: u64,
    pub wired: u64,
    /// RAM the compressor occupies.
    pub compressor: u64,
    /// What it holds before compression, pages on disk included: the ratio overstates once there is swap.
    pub in_compressor: u64,
    /// Since boot.
    pub compressions: u64,
    /// Since boot.
    pub decompressions: u64,
    /// Since boot.
    pub swapins: u64,
    /// Since boot.
    pub swapouts: u64,
}

/// What comes from single numbers rather than from the page counters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Levels {
    /// `hw.memsize`.
    pub total: Option<u64>,
    /// `kern.memorystatus_vm_pressure_level`: 1 normal, 2 warning, 4 critical.
    pub pressure: Option<u8>,
    /// `kern.memorystatus_level`.
    pub free_percent: Option<u8>,
}

/// The reading of the machine in Activity Monitor's words.
pub(super) fn reading(pages: Option<Pages>, page_size: u64, levels: Levels) -> HostReading {
    let mut out = HostReading {
        total: levels.total,
        pressure: levels.pressure,
        free_percent: levels.free_percent.map(f64::from),
        ..HostReading::default()
    };
    let Some(pages) = pages else { return out };
    let bytes = |pages: u64| Some(pages.saturating_mul(page_size));
    let app = pages.internal.saturating_sub(pages.purgeable);
    let used = app.saturating_add(pages.wired).saturating_add(pages.compressor);
    // Free, plus Cached Files. sysinfo's figure counts pages in use as available.
    let available =
        pages.free.saturating_sub(pages.speculative).saturating_add(pages.external).saturating_add(pages.purgeable);
    out.used = bytes(used);
    out.available = bytes(available).map(|bytes| bytes.min(levels.total.unwrap_or(u64::MAX)));
    out.wired = bytes(pages.wired);
    out.compressed = bytes(pages.compressor);
    out.compressed_logical = bytes(pages.in_compressor);
    out.swapped_in = bytes(pages.swapins);
    out.swapped_out = bytes(pages.swapouts);
    out.compressed_in_all = bytes(pages.compressions);
    out.decompressed_in_all = bytes(pages.decompressions);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: u64 = 16_384;

    #[test]
    fn the_words_of_activity_monitor() {
        // A 64 GiB machine with a cold 35 GB model in the compressor.
        let pages = Pages {
            free: 200_000,
            speculative: 20_000,
            purgeable: 10_000,
            external: 400_000,
            internal: 1_310_000,
            wired: 300_000,
            compressor: 1_200_000,
            in_compressor: 2_400_000,
            compressions: 5_000_000,
            decompressions: 1_000_000,
            swapins: 3,
            swapouts: 9,
        };
        let levels = Levels { total: Some(64 << 30), pressure: Some(2), free_percent: Some(31) };
        let out = reading(Some(pages), PAGE, levels);
        assert_eq!(out.used, Some((1_300_000 + 300_000 + 1_200_000) * PAGE), "App + Wired + Compressed");
        assert_eq!(out.available, Some((180_000 + 400_000 + 10_000) * PAGE), "free + Cached Files");
        assert_eq!(out.compressed, Some(1_200_000 * PAGE));
        assert_eq!(out.compressed_logical, Some(2_400_000 * PAGE));
        assert_eq!((out.swapped_in, out.swapped_out), (Some(3 * PAGE), Some(9 * PAGE)));
        assert_eq!((out.pressure, out.free_percent), (Some(2), Some(31.0)));
        assert_eq!(out.stalled_us, None, "macOS has no stall counter");
    }

    #[test]
    fn counters_that_contradict_each_other_do_not_panic() {
        let odd = Pages { purgeable: u64::MAX, speculative: 9, ..Pages::default() };
        let out = reading(Some(odd), PAGE, Levels { total: Some(1 << 30), ..Levels::default() });
        assert_eq!(out.used, Some(0));
        assert_eq!(out.available, Some(1 << 30), "never more than there is");
        assert_eq!(reading(None, PAGE, Levels::default()), HostReading::default());
    }
}
