//! The throttling proxy: same bytes, a limit, and books.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use stowage_testkit::throttle::Throttle;

const MIB: usize = 1 << 20;

/// A server that answers each connection with what it was sent, backwards and `times` over.
fn server(times: usize) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            std::thread::spawn(move || {
                let mut stream = stream.unwrap();
                let mut bytes = Vec::new();
                stream.read_to_end(&mut bytes).unwrap();
                bytes.reverse();
                for _ in 0..times {
                    // A client that has gone away is part of a test.
                    if stream.write_all(&bytes).is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

fn ask(throttle: &Throttle, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(throttle.address()).unwrap();
    stream.write_all(bytes).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    answer
}

/// Waits for what a connection's own thread does.
fn until(what: &str, holds: impl Fn() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < Duration::from_mins(1), "{what}");
        std::thread::yield_now();
    }
}

#[test]
fn bytes_pass_unchanged_in_both_directions() {
    let throttle = Throttle::start(server(1), 0).unwrap();
    let sent: Vec<u8> = (0..3 * MIB).map(|n| (n * 7 + n / 251) as u8).collect();
    let mut expected = sent.clone();
    expected.reverse();
    assert!(ask(&throttle, &sent) == expected);
    assert_eq!(throttle.bytes_passed(), sent.len() as u64);
    assert_eq!((throttle.connections(), throttle.most_busy()), (1, 1));
}

#[test]
fn no_connection_is_faster_than_its_rate_and_each_has_its_own() {
    const RATE: u64 = 8 << 20;
    let throttle = Throttle::start(server(3), RATE).unwrap();
    let started = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| assert_eq!(ask(&throttle, &vec![1; MIB]).len(), 3 * MIB));
        }
    });
    // 3 MiB at 8 MiB/s, less the step that goes first and the slack for late wake-ups.
    let took = started.elapsed();
    assert!(took >= Duration::from_millis(375 - 5 - 20), "{took:?}");
    assert_eq!((throttle.connections(), throttle.bytes_passed()), (4, 12 * MIB as u64));
    throttle.reset_counts();
    assert_eq!((throttle.connections(), throttle.bytes_passed()), (0, 0));
}

#[test]
fn the_limit_can_be_lifted_while_bytes_flow() {
    let throttle = Throttle::start(server(64), 1 << 20).unwrap();
    std::thread::scope(|scope| {
        // 64 MiB at 1 MiB/s would be a minute.
        let answer = scope.spawn(|| ask(&throttle, &vec![1; MIB]).len());
        until("some bytes pass", || throttle.bytes_passed() > 0);
        throttle.set_rate(None);
        assert_eq!(answer.join().unwrap(), 64 * MIB);
    });
}

#[test]
fn small_answers_are_no_busy_connections() {
    let throttle = Throttle::start(server(1), 0).unwrap();
    assert_eq!(ask(&throttle, b"abc"), b"cba");
    assert_eq!((throttle.connections(), throttle.most_busy()), (1, 0));
}

#[test]
fn an_upstream_that_is_not_there_ends_the_connection() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let throttle = Throttle::start(nobody, 0).unwrap();
    let mut stream = TcpStream::connect(throttle.address()).unwrap();
    let mut answer = Vec::new();
    // The end may come as a close or as a reset.
    let _ = stream.read_to_end(&mut answer);
    assert!(answer.is_empty());
}

#[test]
fn dropping_the_proxy_ends_what_is_open() {
    let throttle = Throttle::start(server(1000), 1 << 20).unwrap();
    let mut stream = TcpStream::connect(throttle.address()).unwrap();
    stream.write_all(&vec![1; MIB]).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    stream.read_exact(&mut [0; 1000]).unwrap();
    drop(throttle);
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest);
    assert!(rest.len() < 1000 * MIB);
}
