//! A program at a terminal of its own: keys go in, and the screen that a person would see can be read.
#![allow(unsafe_code, reason = "pre_exec runs between fork and exec, and a terminal's size has no wrapper; see there")]

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Mutex};

use nix::pty::{Winsize, openpty};
use nix::sys::signal::{Signal, kill};
use nix::sys::termios::{Termios, tcgetattr};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};

use crate::service::{eventually, pid};

/// A program and its terminal.
pub struct Terminal {
    child: Child,
    master: File,
    /// Kept open, so that the terminal outlives the program and can be looked at.
    slave: OwnedFd,
    before: Termios,
    screen: Arc<Mutex<Screen>>,
}

impl Terminal {
    /// `mlxsupctl` of this home with these arguments, at a terminal of this size.
    pub fn start(home: &Path, arguments: &[&str], (columns, rows): (u16, u16)) -> Self {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        let pty = openpty(Some(&size), None).unwrap();
        let before = tcgetattr(&pty.slave).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_mlxsupctl"));
        command.args(arguments).env_clear().env("HOME", home).env("MLXSUP_HOME", home).env("TERM", "xterm");
        let end = || pty.slave.try_clone().unwrap();
        command.stdin(end()).stdout(end()).stderr(end());
        // SAFETY: setsid and ioctl are async-signal-safe, and nothing is allocated.
        unsafe {
            command.pre_exec(|| {
                nix::unistd::setsid()?;
                // The program's terminal, and not that of whoever runs the tests.
                match libc::ioctl(0, libc::TIOCSCTTY as _, 0) {
                    0 => Ok(()),
                    _ => Err(io::Error::last_os_error()),
                }
            });
        }
        let child = command.spawn().unwrap();
        let master = File::from(pty.master);
        let screen = Arc::new(Mutex::new(Screen::default()));
        let (mut source, shown) = (master.try_clone().unwrap(), screen.clone());
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = source.read(&mut buffer) {
                shown.lock().unwrap().feed(&buffer[..length]);
            }
        });
        Self { child, master, slave: pty.slave, before, screen }
    }

    pub fn press(&mut self, keys: &str) {
        self.master.write_all(keys.as_bytes()).unwrap();
    }

    pub fn resize(&self, (columns, rows): (u16, u16)) {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        // SAFETY: the descriptor is open, and the size lives through the call, which only reads it.
        let done = unsafe { libc::ioctl(self.master.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) };
        assert_eq!(done, 0, "{}", io::Error::last_os_error());
    }

    pub fn signal(&self, signal: Signal) {
        kill(pid(self.child.id()), signal).unwrap();
    }

    /// The rows of the screen.
    pub fn rows(&self) -> Vec<String> {
        self.screen.lock().unwrap().text()
    }

    /// Waits until the screen holds each of these.
    #[track_caller]
    pub fn shows(&self, wanted: &[&str]) {
        eventually(&format!("{wanted:?} on the screen"), || {
            let shown = self.rows().join("\n");
            wanted.iter().all(|text| shown.contains(text)).then_some(()).ok_or(shown)
        });
    }

    /// Waits until the shell would have its terminal again, as it was before.
    #[track_caller]
    pub fn is_given_back(&self) {
        eventually("the terminal is given back", || {
            let screen = self.screen.lock().unwrap();
            let same = tcgetattr(&self.slave).unwrap() == self.before;
            let fine = !screen.is_alternate && !screen.is_cursor_hidden && same;
            let why = || format!("modes as before: {same}, {:?}", (screen.is_alternate, screen.is_cursor_hidden));
            fine.then_some(()).ok_or_else(why)
        });
    }

    /// Waits until the program was stopped, as Ctrl-Z does.
    pub fn stopped(&self) {
        let status = waitpid(pid(self.child.id()), Some(WaitPidFlag::WUNTRACED)).unwrap();
        assert!(matches!(status, WaitStatus::Stopped(..)), "{status:?}");
    }

    /// Waits for the end.
    pub fn ended(&mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// As much of a terminal as a full-screen program needs: placing the cursor, clearing, the alternate screen.
#[derive(Default)]
struct Screen {
    cells: Vec<Vec<char>>,
    at: (usize, usize),
    pending: Vec<u8>,
    is_alternate: bool,
    is_cursor_hidden: bool,
}

impl Screen {
    fn feed(&mut self, bytes: &[u8]) {
        self.pending.extend_from_slice(bytes);
        while let Some(length) = self.take_one() {
            self.pending.drain(..length);
        }
    }

    /// Carries out what stands first, and returns its length; `None` while it is not complete.
    fn take_one(&mut self) -> Option<usize> {
        if self.pending.starts_with(b"\x1b[") {
            let end = 2 + self.pending[2..].iter().position(|byte| (0x40..0x7f).contains(byte))?;
            let arguments = String::from_utf8_lossy(&self.pending[2..end]).into_owned();
            self.control(self.pending[end], &arguments);
            return Some(end + 1);
        }
        let first = *self.pending.first()?;
        let length = match first {
            0x1b => return (self.pending.len() > 1).then_some(2),
            0xf0.. => 4,
            0xe0.. => 3,
            0xc0.. => 2,
            _ => 1,
        };
        let symbol = std::str::from_utf8(self.pending.get(..length)?).unwrap().chars().next()?;
        if !symbol.is_control() {
            let (row, column) = self.at;
            self.cells.resize_with(self.cells.len().max(row + 1), Vec::new);
            let cells = &mut self.cells[row];
            cells.resize(cells.len().max(column + 1), ' ');
            cells[column] = symbol;
            self.at.1 += 1;
        }
        Some(length)
    }

    fn control(&mut self, what: u8, arguments: &str) {
        match (what, arguments) {
            (b'H', _) => {
                let mut numbers = arguments.split(';').map(|number| number.parse().unwrap_or(1_usize) - 1);
                self.at = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
            }
            (b'J', _) => self.cells.clear(),
            (b'h' | b'l', "?1049") => {
                // The other screen holds what was there before; nobody asks for it.
                self.cells.clear();
                self.is_alternate = what == b'h';
            }
            (b'h' | b'l', "?25") => self.is_cursor_hidden = what == b'l',
            _ => {}
        }
    }

    fn text(&self) -> Vec<String> {
        self.cells.iter().map(|row| row.iter().collect::<String>().trim_end().to_owned()).collect()
    }
}
