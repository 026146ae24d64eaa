//! `laggard health`: whether a running sidecar is ready, for containers that have no shell and no HTTP client.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

use crate::cli::{Failure, HealthArgs};
use crate::config;

/// Of each step; a probe that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(3);
/// The status line is all that is looked at.
const LONGEST_ANSWER: u64 = 4096;

/// Asks the admin port for readiness.
///
/// # Errors
/// A sentence that says what it answered, or why it did not; what is wrong with the configuration.
pub fn run(args: &HealthArgs, env: &dyn Fn(&str) -> Option<String>) -> Result<(), Failure> {
    let endpoint = match &args.endpoint {
        Some(endpoint) => endpoint.clone(),
        None => reachable(config::load(args.config.as_deref(), env)?.telemetry.admin.endpoint).to_string(),
    };
    match ask(&endpoint) {
        Ok(status) if status.split(' ').nth(1) == Some("200") => Ok(()),
        Ok(status) => Err(Failure::Other(format!("{endpoint} is not ready: {}", status.trim_end()))),
        Err(error) => Err(Failure::Other(format!("{endpoint} does not answer: {error}"))),
    }
}

/// Where a socket that listens on `address` is found from the same host.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// The status line of the answer to a request for `/ready`.
fn ask(endpoint: &str) -> io::Result<String> {
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "its name has no address");
    for address in endpoint.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, PATIENCE) {
            Ok(stream) => return status_line(stream, endpoint),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

fn status_line(mut stream: TcpStream, endpoint: &str) -> io::Result<String> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let request = format!("GET /ready HTTP/1.1\r\nHost: {endpoint}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.take(LONGEST_ANSWER).read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).lines().next().unwrap_or_default().to_owned())
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    /// What `laggard health` says of a server that answers once with `answer`.
    fn health_of(answer: &'static str) -> Result<(), String> {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let endpoint = listener.local_addr().expect("it is bound").to_string();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a connection");
            let mut request = [0; 1024];
            let read = stream.read(&mut request).expect("a request");
            stream.write_all(answer.as_bytes()).expect("it listens");
            request[..read].starts_with(b"GET /ready HTTP/1.1\r\n")
        });
        let args = HealthArgs { config: None, endpoint: Some(endpoint.clone()) };
        let outcome = run(&args, &|_| None);
        assert!(server.join().expect("it does not panic"), "another request");
        outcome.map_err(|failure| failure.to_string().replace(&endpoint, "ENDPOINT"))
    }

    // R20.
    #[test]
    fn ready_is_200_and_nothing_else() {
        assert_eq!(health_of("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"), Ok(()));
        let not_ready = "ENDPOINT is not ready: HTTP/1.1 503 Service Unavailable".to_owned();
        assert_eq!(health_of("HTTP/1.1 503 Service Unavailable\r\n\r\n200"), Err(not_ready));
        assert_eq!(health_of("200"), Err("ENDPOINT is not ready: 200".to_owned()));
    }

    #[test]
    fn a_port_that_nobody_listens_on_is_told() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let endpoint = listener.local_addr().expect("it is bound").to_string();
        drop(listener);
        let args = HealthArgs { config: None, endpoint: Some(endpoint.clone()) };
        let failure = run(&args, &|_| None).expect_err("nobody listens");
        assert!(failure.to_string().starts_with(&format!("{endpoint} does not answer: ")), "{failure}");
        assert_eq!(failure.code(), 1);
    }

    #[test]
    fn every_address_is_reached_over_loopback() {
        for (listens, reached) in
            [("[::]:1", "[::1]:1"), ("0.0.0.0:1", "127.0.0.1:1"), ("10.0.0.7:1", "10.0.0.7:1")]
        {
            assert_eq!(reachable(listens.parse().expect("an address")).to_string(), reached);
        }
    }
}
