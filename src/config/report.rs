//! Where the readers put what they find: problems, and the places of the values.
//!
//! Owns the collecting and its limit. What is a problem is said by the readers.

use std::cell::{Cell, RefCell};
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::problem::{Problem, Problems, Source};

/// Problems kept; of the others only the number is told.
const MOST_PROBLEMS: usize = 100;

/// Where readers put what they find.
pub(super) struct Report {
    source: RefCell<Source>,
    problems: RefCell<Vec<Problem>>,
    more: Cell<usize>,
    user_home: Option<PathBuf>,
}

impl Report {
    pub fn new(text: &str, file: &Path, user_home: Option<PathBuf>) -> Self {
        Self {
            source: RefCell::new(Source::new(text, file)),
            problems: RefCell::default(),
            more: Cell::new(0),
            user_home,
        }
    }

    pub fn push(&self, problem: Problem) {
        let mut problems = self.problems.borrow_mut();
        if problems.len() < MOST_PROBLEMS {
            problems.push(problem);
        } else {
            self.more.set(self.more.get() + 1);
        }
    }

    /// A problem of a key that is already read.
    pub fn fail(&self, key: &str, what: impl Into<String>, hint: impl Into<String>) {
        self.push(self.source.borrow().problem(key, what, hint));
    }

    pub fn fail_at(&self, key: Option<&str>, span: Range<usize>, what: impl Into<String>, hint: Option<String>) {
        self.push(self.source.borrow().problem_at(key, span, what.into(), hint));
    }

    /// Remembers where a value stands.
    pub fn note(&self, key: &str, span: Range<usize>) {
        self.source.borrow_mut().note(key, span);
    }

    /// What `~` stands for, if it is known.
    pub fn user_home(&self) -> Option<&PathBuf> {
        self.user_home.as_ref()
    }

    /// Forgets all problems so far.
    pub fn clear(&self) {
        self.problems.borrow_mut().clear();
        self.more.set(0);
    }

    /// True when the file itself gives this key.
    pub fn gives(&self, key: &str) -> bool {
        self.source.borrow().gives(key)
    }

    /// The first of these keys that the file gives itself: where a problem of all of them is best shown.
    pub fn given<'k>(&self, keys: &[&'k str]) -> &'k str {
        keys.iter().find(|key| self.gives(key)).or_else(|| keys.first()).copied().unwrap_or("")
    }

    pub fn source(&self) -> std::cell::Ref<'_, Source> {
        self.source.borrow()
    }

    /// The source when nothing was wrong.
    pub fn finish(self) -> Result<Source, Problems> {
        match Problems::sorted(self.problems.into_inner(), self.more.get()) {
            Some(problems) => Err(problems),
            None => Ok(self.source.into_inner()),
        }
    }
}
