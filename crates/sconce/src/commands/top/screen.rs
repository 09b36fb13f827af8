//! The terminal while `sconce top` has it: another screen, keys as they are pressed. It is given back as it was.

use std::io::{self, Write};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

/// Another screen, and no cursor.
const ENTER: &str = "\x1b[?1049h\x1b[?25l";
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";

/// The terminal.
pub struct Screen {
    before: Termios,
    /// Bytes of a key that is not whole yet.
    pending: Vec<u8>,
}

/// A key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// A character.
    Char(char),
    Enter,
    Backspace,
    Escape,
    Up,
    Down,
    PageUp,
    PageDown,
    /// Home.
    First,
    /// End.
    Last,
    /// Ctrl-C, or no terminal any more.
    End,
}

impl Screen {
    /// Takes the terminal.
    ///
    /// # Errors
    /// Standard input is none.
    pub fn take() -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        let screen = Self { before, pending: Vec::new() };
        tcsetattr(io::stdin(), OptionalActions::Now, &raw)?;
        screen.say(ENTER)?;
        Ok(screen)
    }

    /// Rows and columns; 24 and 80 where the terminal does not say.
    pub fn size() -> (usize, usize) {
        match tcgetwinsize(io::stdout()) {
            Ok(size) if size.ws_row > 0 && size.ws_col > 0 => {
                (size.ws_row.into(), size.ws_col.into())
            }
            _ => (24, 80),
        }
    }

    /// Shows these lines, at most as many as there are rows.
    ///
    /// # Errors
    /// The terminal is gone.
    pub fn show(&self, lines: &[String]) -> io::Result<()> {
        let mut text = String::from("\x1b[H");
        let (rows, _) = Self::size();
        for (row, line) in lines.iter().take(rows).enumerate() {
            if row > 0 {
                text.push_str("\r\n");
            }
            text.push_str(line);
            text.push_str("\x1b[0m\x1b[K");
        }
        text.push_str("\x1b[J");
        self.say(&text)
    }

    fn say(&self, text: &str) -> io::Result<()> {
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())?;
        out.flush()
    }

    /// The next key, if one is pressed within that time.
    pub fn key(&mut self, within: Duration) -> Option<Key> {
        if let Some(key) = parsed(&mut self.pending, false) {
            return Some(key);
        }
        let stdin = io::stdin();
        let mut wanted = [PollFd::new(&stdin, PollFlags::IN)];
        let wait = Timespec { tv_sec: within.as_secs() as _, tv_nsec: within.subsec_nanos() as _ };
        match poll(&mut wanted, Some(&wait)) {
            Ok(0) => return parsed(&mut self.pending, true),
            Ok(_) => {}
            Err(_) => return None,
        }
        let mut bytes = [0; 64];
        match rustix::io::read(&stdin, &mut bytes) {
            Ok(0) | Err(rustix::io::Errno::IO) => Some(Key::End),
            Ok(count) => {
                self.pending.extend_from_slice(bytes.get(..count).unwrap_or_default());
                parsed(&mut self.pending, false)
            }
            Err(_) => None,
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = self.say(LEAVE);
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.before);
    }
}

/// The first key of what was typed; an escape alone is one when nothing followed it.
fn parsed(bytes: &mut Vec<u8>, alone: bool) -> Option<Key> {
    const ESCAPES: [(&[u8], Key); 14] = [
        (b"\x1b[A", Key::Up),
        (b"\x1b[B", Key::Down),
        (b"\x1bOA", Key::Up),
        (b"\x1bOB", Key::Down),
        (b"\x1b[5~", Key::PageUp),
        (b"\x1b[6~", Key::PageDown),
        // As xterm, rxvt, tmux and the Linux console have them.
        (b"\x1b[H", Key::First),
        (b"\x1bOH", Key::First),
        (b"\x1b[1~", Key::First),
        (b"\x1b[7~", Key::First),
        (b"\x1b[F", Key::Last),
        (b"\x1bOF", Key::Last),
        (b"\x1b[4~", Key::Last),
        (b"\x1b[8~", Key::Last),
    ];
    let first = *bytes.first()?;
    if first == 0x1b {
        if let Some((text, key)) = ESCAPES.iter().find(|(text, _)| bytes.starts_with(text)) {
            bytes.drain(..text.len());
            return Some(*key);
        }
        if bytes.len() == 1 && !alone {
            return None;
        }
        // Another key's escape is nobody's.
        let only = bytes.len() == 1;
        bytes.clear();
        return only.then_some(Key::Escape);
    }
    let key = match first {
        3 | 4 => Key::End,
        b'\r' | b'\n' => Key::Enter,
        8 | 127 => Key::Backspace,
        byte if byte.is_ascii_graphic() || byte == b' ' => Key::Char(byte.into()),
        _ => {
            bytes.remove(0);
            return None;
        }
    };
    bytes.remove(0);
    Some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys() {
        let typed = |text: &[u8]| {
            let (mut bytes, mut keys) = (text.to_vec(), Vec::new());
            while let Some(key) = parsed(&mut bytes, true) {
                keys.push(key);
            }
            keys
        };
        assert_eq!(
            typed(b"q\x1b[A\x1b[6~/\r"),
            [Key::Char('q'), Key::Up, Key::PageDown, Key::Char('/'), Key::Enter]
        );
        assert_eq!(
            typed(b"\x1b[H\x1bOF\x1b[1~\x1b[4~s"),
            [Key::First, Key::Last, Key::First, Key::Last, Key::Char('s')]
        );
        assert_eq!(typed(b"\x1b"), [Key::Escape]);
        assert_eq!(typed(b"\x1b[99;5u"), []);
        assert_eq!(typed(b"\x7f\x03"), [Key::Backspace, Key::End]);
        assert_eq!(parsed(&mut b"\x1b".to_vec(), false), None);
    }
}
