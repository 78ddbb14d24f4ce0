//! A name server that knows one name.

use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::thread;

use anyhow::{Context, Result};

/// Where it listens: an address of this machine's that nobody else uses.
pub(super) const SERVER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 153);
/// What the name stands for.
const ADDRESS: Ipv4Addr = Ipv4Addr::LOCALHOST;

/// Answers for the name until the process ends.
pub(super) fn serve(name: &'static str) -> Result<()> {
    let socket = UdpSocket::bind(SocketAddrV4::new(SERVER, 53))
        .with_context(|| format!("cannot listen on {SERVER}:53"))?;
    thread::spawn(move || {
        let mut question = [0; 512];
        while let Ok((length, client)) = socket.recv_from(&mut question) {
            if let Some(answer) = answer(&question[..length], name) {
                let _ = socket.send_to(&answer, client);
            }
        }
    });
    Ok(())
}

/// The answer to a question of one name (RFC 1035, section 4): its address, or nothing for other types and names.
fn answer(question: &[u8], name: &str) -> Option<Vec<u8>> {
    let asked: Vec<u8> = name
        .split('.')
        .flat_map(|label| [&[label.len() as u8], label.as_bytes()].concat())
        .chain([0])
        .collect();
    let tail = question.get(12..)?.strip_prefix(asked.as_slice());
    let is_address = tail.is_some_and(|tail| tail.starts_with(&[0, 1]));
    let end = 12 + question.get(12..)?.iter().position(|byte| *byte == 0)? + 1 + 4;
    let mut answer = question.get(..2)?.to_vec();
    // A response, recursion available; NXDOMAIN for other names.
    answer.extend([0x81, if tail.is_some() { 0x80 } else { 0x83 }]);
    answer.extend([0, 1, 0, u8::from(is_address), 0, 0, 0, 0]);
    answer.extend(question.get(12..end)?);
    if is_address {
        // The name above, type A, class IN, a minute, four bytes.
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
        answer.extend(ADDRESS.octets());
    }
    Some(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(labels: &[&str], kind: u8) -> Vec<u8> {
        let mut bytes = vec![7, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in labels {
            bytes.push(label.len() as u8);
            bytes.extend(label.as_bytes());
        }
        bytes.extend([0, 0, kind, 0, 1]);
        bytes
    }

    #[test]
    fn the_name_has_an_address_and_nothing_else_has() {
        let known = answer(&question(&["a", "test"], 1), "a.test").unwrap();
        assert_eq!((known[0], known[3] & 15, known[7]), (7, 0, 1));
        assert!(known.ends_with(&[127, 0, 0, 1]));
        let sixes = answer(&question(&["a", "test"], 28), "a.test").unwrap();
        assert_eq!((sixes[3] & 15, sixes[7]), (0, 0));
        let other = answer(&question(&["b", "test"], 1), "a.test").unwrap();
        assert_eq!((other[3] & 15, other[7]), (3, 0));
        assert_eq!(answer(&[1, 2, 3], "a.test"), None);
    }
}
