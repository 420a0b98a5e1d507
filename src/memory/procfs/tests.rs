//! Fixtures were taken from real machines (Linux 6.18 and 6.1), shortened to what matters plus its neighbours.

use proptest::prelude::*;

use super::*;

const MEMINFO: &str = "\
MemTotal:       24684092 kB
MemFree:        23717100 kB
MemAvailable:   24285208 kB
Buffers:          222316 kB
Cached:           479448 kB
SwapCached:            0 kB
Active(anon):       1560 kB
Unevictable:       19312 kB
Mlocked:           18428 kB
SwapTotal:             0 kB
SwapFree:              0 kB
Zswap:             10240 kB
Zswapped:          40960 kB
HugePages_Total:       0
DirectMap1G:    25165824 kB
";

const VMSTAT: &str = "nr_free_pages 5929275\npswpin 12\npswpout 3400\npgmajfault 1581\noom_kill 0\nzswpin 7\nzswpout 9\n\
                      zswpwb 0\n";

const STATUS: &str = "\
Name:\tmlxsup-worker
State:\tS (sleeping)
Pid:\t8295
VmPeak:\t 1003060 kB
VmSize:\t 1003060 kB
VmLck:\t  524288 kB
VmPin:\t       0 kB
VmHWM:\t  701616 kB
VmRSS:\t  601504 kB
RssAnon:\t  600000 kB
RssFile:\t    1504 kB
RssShmem:\t       0 kB
VmSwap:\t   40000 kB
Threads:\t9
";

const ZOMBIE_STATUS: &str = "Name:\tgone\nState:\tZ (zombie)\nPid:\t99\nThreads:\t1\n";

#[test]
fn meminfo_is_in_bytes_and_absent_lines_stay_absent() {
    let all = meminfo(MEMINFO);
    assert_eq!(all.total, Some(24_684_092 * 1024));
    assert_eq!(all.available, Some(24_285_208 * 1024));
    assert_eq!(all.unevictable, Some(19_312 * 1024));
    assert_eq!(all.locked, Some(18_428 * 1024));
    assert_eq!(all.zswap, Some(10_240 * 1024));
    assert_eq!(all.zswapped, Some(40_960 * 1024));
    assert_eq!(meminfo("MemTotal: much kB\nMemFree:\n"), Meminfo::default());
}

#[test]
fn vmstat_counts_pages() {
    let all = vmstat(VMSTAT);
    assert_eq!((all.swapped_in, all.swapped_out), (Some(12), Some(3400)));
    assert_eq!((all.zswap_in, all.zswap_out), (Some(7), Some(9)));
}

#[test]
fn pressure_has_two_lines() {
    let all = pressure(
        "some avg10=12.50 avg60=3.00 avg300=0.10 total=123456\nfull avg10=1.25 avg60=0.00 avg300=0.00 total=77\n",
    );
    assert_eq!(all.some_avg10, Some(12.5));
    assert_eq!(all.some_total_us, Some(123_456));
    assert_eq!(all.full_avg10, Some(1.25));
    assert_eq!(pressure("some avg10=NaN total=-1"), Pressure::default());
}

#[test]
fn zram_columns() {
    let line = "314572800 104857600 110100480        0 115343360      120        0       33       40\n";
    assert_eq!(mm_stat(line), Some(MmStat { original: 314_572_800, used: 110_100_480 }));
    let stat = "      10        0       80        0       25        0      200        4        0        4        4\n";
    assert_eq!(block_stat(stat), Some(BlockStat { read: 80 * 512, written: 200 * 512 }));
    assert_eq!(mm_stat("1 2"), None);
    assert_eq!(block_stat(""), None);
}

#[test]
fn footprint_counts_own_pages_wherever_they_are() {
    let status = process_status(STATUS);
    assert_eq!(status.footprint(), Some((600_000 + 40_000) * 1024));
    assert_eq!(status.swap, Some(40_000 * 1024));
    assert_eq!(status.locked, Some(524_288 * 1024));
    assert_eq!(process_status(ZOMBIE_STATUS).footprint(), None, "a zombie has no memory lines");
}

#[test]
fn rollup_tells_what_is_locked_and_resident() {
    let text = "55911ec65000-7fffbfd1a000 ---p 00000000 00:00 0                          [rollup]\nRss:                1792 \
                kB\nPss_Anon:            116 kB\nSwapPss:               0 kB\nLocked:              512 kB\n";
    assert_eq!(rollup_locked(text), Some(512 * 1024));
    assert_eq!(rollup_locked("Rss: 1 kB\n"), None);
}

#[test]
fn stat_survives_a_hostile_command_name() {
    let text = "8296 (a) R 1 (b c) S 8291 8291 4195 0 -1 4194304 99 0 7 0 11 13 0 0 20 0 1 0 102642 3133440 413 \
                18446744073709551615 0 0 0\n";
    assert_eq!(
        process_stat(text),
        Some(ProcessStat {
            stopped: false,
            ended: false,
            group: 8291,
            major_faults: 7,
            cpu_ticks: 24,
            started: 102_642
        })
    );
    assert_eq!(process_stat("1 (x) R 1 2 3"), None);
}

#[test]
fn this_machine_is_understood() {
    let own = std::fs::read_to_string("/proc/self/stat").unwrap();
    assert!(process_stat(&own).unwrap().started > 0);
    let status = process_status(&std::fs::read_to_string("/proc/self/status").unwrap());
    assert!(status.footprint().unwrap() > 0);
    let host = meminfo(&std::fs::read_to_string("/proc/meminfo").unwrap());
    assert!(host.available.unwrap() <= host.total.unwrap());
}

/// Text that looks almost like a kernel file.
fn near_miss() -> impl Strategy<Value = String> {
    let word = prop_oneof![
        Just("MemTotal".to_owned()),
        Just("VmSwap".to_owned()),
        Just("some".to_owned()),
        Just("avg10=".to_owned()),
        Just("kB".to_owned()),
        Just(")".to_owned()),
        Just(":".to_owned()),
        "[0-9]{0,25}",
        "\\PC{0,6}",
    ];
    proptest::collection::vec((word, prop_oneof![Just(" "), Just("\n"), Just("\t"), Just("")]), 0..60)
        .prop_map(|words| words.into_iter().map(|(word, gap)| word + gap).collect())
}

proptest! {
    #[test]
    fn garbage_never_panics(text in near_miss()) {
        let _ = (meminfo(&text), vmstat(&text), pressure(&text), mm_stat(&text), block_stat(&text));
        let _ = (process_status(&text).footprint(), rollup_locked(&text), process_stat(&text));
    }

    #[test]
    fn any_text_never_panics(text in ".{0,400}") {
        let _ = (meminfo(&text), vmstat(&text), pressure(&text), mm_stat(&text), block_stat(&text));
        let _ = (process_status(&text).footprint(), rollup_locked(&text), process_stat(&text));
    }
}
