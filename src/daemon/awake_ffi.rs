//! The IOKit calls behind [`super::awake`], and nothing else.
//!
//! Owns every `unsafe` line about power assertions. Signatures and values are those of IOKit's `pwr_mgt/IOPMLib.h` and of
//! CoreFoundation's `CFString.h`; both frameworks are part of macOS.
#![allow(unsafe_code, reason = "power assertions exist only behind C interfaces; each call carries its argument")]

use std::ffi::{CStr, CString, c_char, c_void};
use std::ptr;

/// `CFStringRef`.
type CfString = *const c_void;

/// `kCFStringEncodingUTF8`.
const UTF8: u32 = 0x0800_0100;

/// `kIOPMAssertionTypePreventUserIdleSystemSleep`, which the header defines as a string literal, not as a symbol. The
/// display may sleep, and so may the machine when its lid is closed or somebody says so.
const PREVENT_USER_IDLE_SYSTEM_SLEEP: &CStr = c"PreventUserIdleSystemSleep";

/// `kIOPMAssertionLevelOn`.
const LEVEL_ON: u32 = 255;

/// `kIOReturnSuccess`.
const SUCCESS: i32 = 0;

/// `kIOReturnNoMemory`.
const NO_MEMORY: i32 = 0xe000_02bd_u32.cast_signed();

#[link(name = "CoreFoundation", kind = "framework")]
unsafe extern "C" {
    fn CFStringCreateWithCString(allocator: *const c_void, text: *const c_char, encoding: u32) -> CfString;
    fn CFRelease(object: *const c_void);
}

#[link(name = "IOKit", kind = "framework")]
unsafe extern "C" {
    fn IOPMAssertionCreateWithName(kind: CfString, level: u32, name: CfString, id: *mut u32) -> i32;
    fn IOPMAssertionRelease(id: u32) -> i32;
}

/// A power assertion. The system keeps awake until it is dropped, or the process ends.
#[derive(Debug)]
pub(super) struct Assertion {
    id: u32,
}

impl Assertion {
    /// Keeps the machine from sleeping for idleness; `name` is what `pmset -g assertions` shows, cut at a nul.
    ///
    /// # Errors
    /// IOKit's return code.
    pub fn against_idle_sleep(name: &str) -> Result<Self, i32> {
        let name = CString::new(name.split('\0').next().unwrap_or_default()).map_err(|_| NO_MEMORY)?;
        let (kind, name) = (Text::new(PREVENT_USER_IDLE_SYSTEM_SLEEP)?, Text::new(&name)?);
        let mut id = 0;
        // SAFETY: both strings are live CFStrings until the end of this function; the call copies what it keeps. `id` is
        // a writable 32-bit integer, written before the call returns.
        let code = unsafe { IOPMAssertionCreateWithName(kind.0, LEVEL_ON, name.0, &raw mut id) };
        if code == SUCCESS { Ok(Self { id }) } else { Err(code) }
    }
}

impl Drop for Assertion {
    fn drop(&mut self) {
        // SAFETY: takes a plain number. This value came from a successful creation and is released here alone; for one
        // that the system does not know (any more) the call returns an error, and then there is nothing to release.
        let _ = unsafe { IOPMAssertionRelease(self.id) };
    }
}

/// A CFString of ours, never null.
struct Text(CfString);

impl Text {
    fn new(text: &CStr) -> Result<Self, i32> {
        // SAFETY: a null allocator is the default one; `text` ends with a nul, and its bytes are copied during the call.
        let created = unsafe { CFStringCreateWithCString(ptr::null(), text.as_ptr(), UTF8) };
        if created.is_null() { Err(NO_MEMORY) } else { Ok(Self(created)) }
    }
}

impl Drop for Text {
    fn drop(&mut self) {
        // SAFETY: not null, and created by us ("Create" in the name), so exactly one release is ours.
        unsafe { CFRelease(self.0) };
    }
}
