//! Python stacks of a process that was prepared for nothing, read from its memory, in the form that faulthandler writes.
//!
//! The process is neither stopped nor written to, so that a stack may change while it is read: a thread whose frames don't hang
//! together is read again, and what stays torn is said to be. All of it comes from another process: bounded, and never believed.

use std::fmt::Write;
use std::io;

use crate::layouts::{self, Layout, NOT_PYTHONS};
use crate::memory::{self, Memory};

const MOST_INTERPRETERS: usize = 16;
const MOST_THREADS: usize = 1024;
/// faulthandler's own limit is 100.
const MOST_FRAMES: usize = 200;
/// Bytes of a name.
const LONGEST_NAME: u64 = 1024;
const LONGEST_TABLE: u64 = 1 << 20;
/// What `_PyRuntime` begins with, from 3.13 on.
const COOKIE: &[u8] = b"xdebugpy";
/// How often a thread is read that changes meanwhile.
const TRIES: usize = 3;

/// Why there are no stacks.
#[derive(Debug)]
pub(crate) enum NoStacks {
    /// It is no Python.
    NotPython,
    /// The kernel lets nobody like us look.
    Forbidden(io::Error),
    /// Another reason, in words.
    Unread(String),
}

/// A Python in the memory of a process.
#[derive(Debug)]
pub(crate) struct Python {
    memory: Memory,
    runtime: u64,
    layout: &'static Layout,
}

impl Python {
    /// Finds the Python of a process.
    pub(crate) fn find(pid: u32) -> Result<Self, NoStacks> {
        let fault = |error: io::Error| match error.raw_os_error() {
            // It has ended meanwhile, or is the kernel's own.
            Some(2 | 3) => NoStacks::NotPython,
            _ => NoStacks::Forbidden(error),
        };
        let places = memory::pythons(pid).map_err(fault)?;
        let memory = Memory::open(pid).map_err(fault)?;
        for (name, base) in &places {
            let Some(runtime) = memory.symbol(*base, "_PyRuntime") else { continue };
            let version = memory.symbol(*base, "Py_Version").and_then(|at| memory.u64(at));
            let minor = match version {
                Some(version) if version >> 24 == 3 => Some((version >> 16 & 0xff) as u8),
                Some(_) => None,
                // Before 3.11 only names say it.
                None => minor_of_name(name),
            };
            let Some(minor) = minor else {
                return Err(NoStacks::Unread(format!(
                    "which Python it is can't be told of `{name}`"
                )));
            };
            let layout = layouts::of(minor).ok_or_else(|| {
                let why = "its Python is 3.{minor}, and 3.10 to 3.13 are read";
                NoStacks::Unread(why.replace("{minor}", &minor.to_string()))
            })?;
            let python = Self { memory, runtime, layout };
            if minor >= 13 {
                python.check_build().map_err(NoStacks::Unread)?;
            }
            return Ok(python);
        }
        let named = places.iter().any(|(name, _)| name.contains("python"));
        Err(match named {
            true => NoStacks::Unread("its Python does not export `_PyRuntime`".to_owned()),
            false => NoStacks::NotPython,
        })
    }

    /// That it has a GIL. From 3.13 on `_PyRuntime` begins with a table of offsets, of which the first three words are these
    /// (`Include/internal/pycore_debug_offsets.h`: cookie, version, free_threaded).
    fn check_build(&self) -> Result<(), String> {
        let cookie = self.memory.read(self.runtime, COOKIE.len());
        if cookie.as_deref() != Some(COOKIE) {
            return Err("its `_PyRuntime` does not begin as that of CPython does".to_owned());
        }
        match self.word(self.runtime, 16) {
            Some(0) => Ok(()),
            _ => Err("it is a free-threaded build, without a GIL, which is not read".to_owned()),
        }
    }

    /// The stacks of all threads, the main one last. Where that one is not known whole there are none: by it a rank is judged.
    pub(crate) fn stacks(&self, main: u64) -> Result<String, String> {
        let mut threads = Vec::new();
        let mut interpreter = self.memory.pointer(self.runtime + self.layout.interpreters);
        for _ in 0..MOST_INTERPRETERS {
            let Some(at) = interpreter else { break };
            let mut thread = self.memory.pointer(at.wrapping_add(self.layout.threads));
            while let Some(at) = thread.filter(|_| threads.len() < MOST_THREADS) {
                let native = self.layout.native_id.and_then(|offset| self.word(at, offset));
                let (text, whole) = self.thread(at);
                threads.push((native, text, whole));
                thread = self.memory.pointer(at.wrapping_add(self.layout.next_thread));
            }
            interpreter = self.memory.pointer(at.wrapping_add(self.layout.next_interpreter));
        }
        if threads.is_empty() {
            return Err("its interpreter has no threads: it begins, or ends".to_owned());
        }
        // New threads come first in the list of the interpreter; after a fork only the number says which it is.
        threads.sort_by_key(|(native, ..)| *native == Some(main));
        match threads.last() {
            Some((Some(native), ..)) if *native != main => {
                return Err("its main thread is not among those that were read".to_owned());
            }
            Some((.., false)) => {
                return Err("its main thread changed each time that it was read".to_owned());
            }
            _ => {}
        }
        Ok(threads.into_iter().map(|(_, text, _)| text).collect::<Vec<_>>().join("\n"))
    }

    fn word(&self, at: u64, offset: u64) -> Option<u64> {
        self.memory.u64(at.wrapping_add(offset))
    }

    /// A thread in words, and whether its frames hang together.
    fn thread(&self, at: u64) -> (String, bool) {
        let id = self.word(at, self.layout.thread_id).unwrap_or_default();
        let native = self.layout.native_id.and_then(|offset| self.word(at, offset));
        let native = native.map_or_else(String::new, |id| format!(" [{id}]"));
        let mut text = format!("Thread 0x{id:016x}{native} (most recent call first):\n");
        let (mut frames, mut whole) = (Vec::new(), false);
        for _ in 0..TRIES {
            (frames, whole) = self.frames(at);
            if whole {
                break;
            }
        }
        for (file, line, function) in &frames {
            _ = writeln!(text, "  File \"{file}\", line {line} in {function}");
        }
        if frames.is_empty() && whole {
            text += "  <no Python frame>\n";
        }
        if frames.len() == MOST_FRAMES {
            text += "  ...\n";
        }
        if !whole {
            text += "  <it changed while it was read>\n";
        }
        (text, whole)
    }

    /// The frames of a thread, innermost first, and whether they hang together.
    fn frames(&self, thread: u64) -> (Vec<(String, u32, String)>, bool) {
        let mut at = thread;
        for offset in self.layout.to_frame {
            match self.word(at, *offset) {
                Some(0) => return (Vec::new(), true),
                Some(next) => at = next,
                None => return (Vec::new(), false),
            }
        }
        let mut frames = Vec::new();
        for _ in 0..MOST_FRAMES {
            let owner =
                self.layout.owner.map(|offset| self.memory.read(at.wrapping_add(offset), 1));
            let is_pythons = match owner {
                None => true,
                Some(Some(owner)) => owner[0] < NOT_PYTHONS,
                Some(None) => return (frames, false),
            };
            if is_pythons {
                let Some(frame) = self.frame(at) else { return (frames, false) };
                frames.push(frame);
            }
            match self.word(at, self.layout.back) {
                Some(0) => return (frames, true),
                Some(next) => at = next,
                None => return (frames, false),
            }
        }
        (frames, true)
    }

    fn frame(&self, at: u64) -> Option<(String, u32, String)> {
        let code = self.word(at, self.layout.code)?;
        let file = self.text(self.word(code, self.layout.filename)?)?;
        let name = self.text(self.word(code, self.layout.name)?)?;
        let first = self.memory.u32(code.wrapping_add(self.layout.first_line))?;
        let table = self.word(code, self.layout.line_table)?;
        let len = self.word(table, 16).filter(|len| *len <= LONGEST_TABLE)?;
        let table = self.memory.read(table.wrapping_add(32), len as usize)?;
        let line = match self.layout.bytecode {
            Some(bytecode) => {
                let instruction = self.word(at, self.layout.instruction)?;
                let offset = instruction.checked_sub(code.wrapping_add(bytecode))?;
                line(&table, first, offset)?
            }
            None => {
                let index = self.memory.u32(at.wrapping_add(self.layout.instruction))?;
                line_of_3_10(&table, first, u64::from(index) * 2)?
            }
        };
        // What the compiler adds by itself has no line; it is the function's.
        Some((file, line.unwrap_or(first), name))
    }

    /// A string, as one line may hold it.
    fn text(&self, at: u64) -> Option<String> {
        let len = self.word(at, 16)?.min(LONGEST_NAME);
        let state = self.memory.u32(at.wrapping_add(32))?;
        let (kind, compact, ascii) = (state >> 2 & 7, state >> 5 & 1, state >> 6 & 1);
        if compact == 0 || !matches!(kind, 1 | 2 | 4) {
            return None;
        }
        let before = if ascii == 1 { self.layout.ascii } else { self.layout.compact };
        let bytes = self.memory.read(at.wrapping_add(before), (len * u64::from(kind)) as usize)?;
        let character = |unit: &[u8]| {
            let number = unit.iter().rev().fold(0, |sum, byte| sum << 8 | u32::from(*byte));
            char::from_u32(number).filter(|c| !c.is_control() && *c != '"').unwrap_or('?')
        };
        Some(bytes.chunks(kind as usize).map(character).collect())
    }
}

fn minor_of_name(name: &str) -> Option<u8> {
    let rest = name.split("python3.").nth(1)?;
    rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// The line of an instruction, if it has one, by its offset in bytes (CPython, `InternalDocs/code_objects.md`, the location table
/// of 3.11). Nothing where the table does not have the instruction.
fn line(table: &[u8], first: u32, offset: u64) -> Option<Option<u32>> {
    let mut bytes = table.iter().copied();
    let (mut line, mut end) = (i64::from(first), 0);
    while let Some(head) = bytes.next() {
        if head & 0x80 == 0 {
            return None;
        }
        end += (u64::from(head & 7) + 1) * 2;
        let mut has_line = true;
        match head >> 3 & 15 {
            15 => has_line = false,
            14 => {
                line += signed(varint(&mut bytes)?);
                for _ in 0..3 {
                    varint(&mut bytes)?;
                }
            }
            13 => line += signed(varint(&mut bytes)?),
            form @ 10..=12 => {
                line += i64::from(form) - 10;
                bytes.nth(1)?;
            }
            _ => _ = bytes.next()?,
        }
        if offset < end {
            return numbered(line, has_line);
        }
    }
    None
}

fn numbered(line: i64, has_line: bool) -> Option<Option<u32>> {
    if has_line { u32::try_from(line).ok().map(Some) } else { Some(None) }
}

/// Six bits a byte, the lowest first; the seventh says that more follow.
fn varint(bytes: &mut impl Iterator<Item = u8>) -> Option<u64> {
    let mut value = 0;
    for shift in (0..36).step_by(6) {
        let byte = bytes.next()?;
        value |= u64::from(byte & 63) << shift;
        if byte & 64 == 0 {
            return Some(value);
        }
    }
    None
}

fn signed(value: u64) -> i64 {
    let half = (value >> 1) as i64;
    if value & 1 == 1 { -half } else { half }
}

/// The same of 3.10 (`Objects/lnotab_notes.txt`): pairs of how far an entry goes, and by how many lines.
fn line_of_3_10(table: &[u8], first: u32, offset: u64) -> Option<Option<u32>> {
    let (mut line, mut end) = (i64::from(first), 0);
    for pair in table.chunks_exact(2) {
        end += u64::from(pair[0]);
        let by = pair[1] as i8;
        if by != i8::MIN {
            line += i64::from(by);
        }
        if offset < end {
            return numbered(line, by != i8::MIN);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_instructions() {
        // 2 units at the first line, 1 unit three lines on without columns, 1 unit of no line, 8 units one line back.
        let table = [0x80 | 1, 0, 0x80 | 13 << 3, 6, 0x80 | 15 << 3, 0x80 | 13 << 3 | 7, 3];
        let at = |offset| line(&table, 10, offset);
        assert_eq!(
            [at(0), at(2), at(4), at(6), at(8), at(22)],
            [Some(10), Some(10), Some(13), None, Some(12), Some(12)].map(Some)
        );
        assert_eq!(at(24), None);
        for junk in [&[][..], &[0], &[0xf0], &[0xe8, 0xff, 0xff], &[0xff; 64]] {
            assert!(line(junk, 1, 1 << 40).is_none(), "{junk:?}");
        }
        let table = [4, 0, 6, 2, 2, 0x80, 2, 0xff];
        let at = |offset| line_of_3_10(&table, 5, offset);
        assert_eq!([at(0), at(4), at(10), at(12)], [Some(5), Some(7), None, Some(6)].map(Some));
        assert_eq!(at(14), None);
    }

    #[test]
    fn names_of_pythons() {
        assert_eq!(minor_of_name("libpython3.10.so.1.0"), Some(10));
        assert_eq!(minor_of_name("python3"), None);
    }
}
