//! The keys that detach from a terminal: Ctrl-\ twice. Pure.
//!
//! The first Ctrl-\ is held back; any other key after it sends both, so a program that wants one Ctrl-\ gets it with
//! the next key.

const DETACH: u8 = 0x1c;

/// Watches typed bytes.
#[derive(Debug, Default)]
pub(crate) struct Keys {
    held: bool,
}

impl Keys {
    /// What to send of `typed`, and whether the person detaches.
    pub(crate) fn take(&mut self, typed: &[u8]) -> (Vec<u8>, bool) {
        let mut send = Vec::with_capacity(typed.len() + 1);
        for &byte in typed {
            match (byte, std::mem::take(&mut self.held)) {
                (DETACH, true) => return (send, true),
                (DETACH, false) => self.held = true,
                (byte, held) => {
                    if held {
                        send.push(DETACH);
                    }
                    send.push(byte);
                }
            }
        }
        (send, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn twice_detaches_once_goes_through() {
        let mut keys = Keys::default();
        assert_eq!(keys.take(b"ab"), (b"ab".to_vec(), false));
        assert_eq!(keys.take(b"\x1c"), (vec![], false));
        assert_eq!(keys.take(b"c"), (b"\x1cc".to_vec(), false));
        assert_eq!(keys.take(b"\x1c"), (vec![], false));
        assert_eq!(keys.take(b"\x1crest"), (vec![], true));
        assert_eq!(Keys::default().take(b"x\x1c\x1cy"), (b"x".to_vec(), true));
    }
}
