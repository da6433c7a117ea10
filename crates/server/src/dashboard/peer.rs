//! Whose a connection is. At a Unix socket the kernel says so when asked; of a TCP connection within this machine it tells in
//! its table of sockets (proc(5), `/proc/net/tcp`), where the other end stands with the user who opened it.

use std::{
    fs,
    io::{BufRead, BufReader},
    net::{IpAddr, SocketAddr},
};

/// The user who opened the other end of a connection within this machine; `None` if the kernel does not tell, or it has been
/// closed since.
pub(crate) fn owner(peer: SocketAddr, own: SocketAddr) -> Option<u32> {
    let v4 = |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
    let (peer, own) = (v4(peer), v4(own));
    ["/proc/net/tcp", "/proc/net/tcp6"].into_iter().find_map(|table| {
        let lines = BufReader::new(fs::File::open(table).ok()?).lines().map_while(Result::ok);
        lines.skip(1).find_map(|line| {
            let fields: Vec<&str> = line.split_ascii_whitespace().take(8).collect();
            let ends = (parse(fields.get(1)?)?, parse(fields.get(2)?)?);
            (ends == (peer, own)).then(|| fields.get(7)?.parse().ok()).flatten()
        })
    })
}

/// An address as the table has it: words of 32 bits as this machine writes them, in hexadecimal digits.
fn parse(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let word = |at: usize| Some(u32::from_str_radix(address.get(at..at + 8)?, 16).ok()?.to_ne_bytes());
    let address = match address.len() {
        8 => IpAddr::from(word(0)?),
        32 => {
            let words = [word(0)?, word(8)?, word(16)?, word(24)?];
            IpAddr::from(<[u8; 16]>::try_from(words.as_flattened()).ok()?).to_canonical()
        }
        _ => return None,
    };
    Some(SocketAddr::new(address, u16::from_str_radix(port, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn a_connection_is_whose_process_opened_it() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            // A machine may have no IPv6.
            let Ok(listener) = TcpListener::bind(address) else { continue };
            let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (stream, peer) = listener.accept().unwrap();
            let own = stream.local_addr().unwrap();
            assert_eq!(owner(peer, own), Some(rustix::process::geteuid().as_raw()), "{address}");
            assert_eq!(owner(peer, client.local_addr().unwrap()), None, "{address}");
        }
    }

    #[test]
    fn addresses_are_read_as_the_kernel_writes_them() {
        if cfg!(target_endian = "little") {
            assert_eq!(parse("0100007F:1EC8"), Some("127.0.0.1:7880".parse().unwrap()));
            assert_eq!(parse("00000000000000000000000001000000:0050"), Some("[::1]:80".parse().unwrap()));
            assert_eq!(parse("0000000000000000FFFF00000100007F:0050"), Some("127.0.0.1:80".parse().unwrap()));
        }
        assert_eq!(parse("0100007F"), None);
        assert_eq!(parse("01:50"), None);
    }
}
