//! Servers that speak bytes on the loopback interface, whatever they should be.
#![allow(dead_code)]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// A server that does this with each connection; and its port.
pub fn served(each: impl Fn(TcpStream) + Send + 'static) -> u16 {
    served_at("127.0.0.1:0", each)
}

pub fn served_at(address: &str, each: impl Fn(TcpStream) + Send + 'static) -> u16 {
    let listener = TcpListener::bind(address).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || listener.incoming().flatten().for_each(each));
    port
}

/// The first bytes that come.
pub fn first(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = [0; 4096];
    let count = stream.read(&mut bytes).unwrap_or_default();
    bytes[..count].to_vec()
}

/// An answer without a body.
pub fn answer(status: &str, header: &str) -> String {
    format!("HTTP/1.1 {status}\r\n{header}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
}

/// A server that answers the same to all, and what it was asked.
pub fn answers(answer: String) -> (u16, Arc<Mutex<Vec<String>>>) {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&asked);
    let port = served(move |mut stream| {
        let came = String::from_utf8_lossy(&first(&mut stream)).into_owned();
        heard.lock().unwrap().push(came);
        let _ = stream.write_all(answer.as_bytes());
    });
    (port, asked)
}
