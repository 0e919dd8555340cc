//! A web server with nothing in it, to see a mapping work without anything else
//! installed.
//!
//! `hello PORT` serves on every address of both families and says who it is;
//! `hello get ADDRESS:PORT` asks such a server and prints the answer's body.

use std::env;
use std::error::Error;
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::time::Duration;

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let outcome = match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["get", address] => get(address),
        [port] => serve(port),
        _ => Err("usage: hello PORT | hello get ADDRESS:PORT".into()),
    };
    if let Err(error) = outcome {
        eprintln!("hello: {error}");
        std::process::exit(1);
    }
}

fn serve(port: &str) -> Result<(), Box<dyn Error>> {
    let port: u16 = port.parse()?;
    // A listener on `::` takes IPv4 too.
    let listener = TcpListener::bind(("::", port)).map_err(|e| format!("listen on {port}: {e}"))?;
    let privileges = match capabilities()? {
        0 => "no privileges",
        _ => "privileges",
    };
    for client in listener.incoming() {
        // A client that goes away is no reason to stop serving the next.
        let _ = client.and_then(|client| answer(client, port, privileges));
    }
    Ok(())
}

fn answer(client: TcpStream, port: u16, privileges: &str) -> io::Result<()> {
    client.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut lines = BufReader::new(&client).lines();
    while lines.next().transpose()?.is_some_and(|line| !line.is_empty()) {}
    let body = format!(
        "hello {} from a server with {privileges} on port {port}\n",
        client.peer_addr()?.ip().to_canonical()
    );
    write!(
        &client,
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}

fn get(address: &str) -> Result<(), Box<dyn Error>> {
    let mut server =
        TcpStream::connect(address).map_err(|e| format!("connect to {address}: {e}"))?;
    server.set_read_timeout(Some(Duration::from_secs(5)))?;
    write!(server, "GET / HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    server.shutdown(Shutdown::Write)?;
    let mut answer = String::new();
    server.read_to_string(&mut answer)?;
    let (_, body) = answer.split_once("\r\n\r\n").ok_or("the answer has no body")?;
    print!("{body}");
    Ok(())
}

/// The process's effective capabilities: the mask in `CapEff` of proc(5)'s status file.
fn capabilities() -> Result<u64, Box<dyn Error>> {
    let status = fs::read_to_string("/proc/self/status")?;
    let mask = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .ok_or("no CapEff in /proc/self/status")?;
    Ok(u64::from_str_radix(mask.trim(), 16)?)
}
