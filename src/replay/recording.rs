//! A file of recorded requests: OTLP/JSON, one a line.

use std::fmt::Display;
use std::io::{self, BufRead, Read as _};
use std::path::{Path, PathBuf};

use crate::cli::Failure;
use crate::input;

/// A recording, read line by line.
pub(super) struct Recording {
    path: PathBuf,
    text: Box<dyn BufRead>,
    /// Bytes; a longer line is an error, not a reason to run out of memory.
    max_line: u64,
    line: Vec<u8>,
    number: u64,
}

impl Recording {
    pub(super) fn open(path: &Path, max_line: u64) -> Result<Self, Failure> {
        let text = input::open(path).map_err(|error| unreadable(path, &error))?;
        Ok(Self { path: path.to_owned(), text, max_line, line: Vec::new(), number: 0 })
    }

    /// The next line that is not blank; `None` at the end.
    pub(super) fn next_line(&mut self) -> Result<Option<&[u8]>, Failure> {
        loop {
            self.line.clear();
            self.number += 1;
            let mut line = (&mut *self.text).take(self.max_line.saturating_add(1));
            let read = line.read_until(b'\n', &mut self.line);
            match read {
                Err(error) => return Err(self.wrong(&error)),
                Ok(0) => return Ok(None),
                Ok(length) if length as u64 > self.max_line => {
                    let rule = format!("longer than receive.max_request_size, {} bytes", self.max_line);
                    return Err(self.wrong(&rule));
                }
                Ok(_) if self.line.trim_ascii().is_empty() => {}
                Ok(_) => return Ok(Some(&self.line)),
            }
        }
    }

    /// What is wrong with the line read last.
    pub(super) fn wrong(&self, problem: &dyn Display) -> Failure {
        Failure::Input(format!("{} line {}: {problem}", self.path.display(), self.number))
    }
}

fn unreadable(path: &Path, error: &io::Error) -> Failure {
    Failure::Input(format!("{} cannot be read: {error}", path.display()))
}
