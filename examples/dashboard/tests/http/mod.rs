//! As much of HTTP as a test needs.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// What a server answered.
pub(crate) struct Reply {
    pub(crate) head: String,
    pub(crate) body: String,
}

/// Asks for an address. In HTTP 1.0, where the answer ends with the connection.
pub(crate) async fn get(address: SocketAddr, path: &str) -> Reply {
    let asked = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n").as_bytes()).await?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await?;
        Ok::<_, std::io::Error>(text)
    };
    let text = timeout(Duration::from_mins(1), asked).await.expect("it answers").expect("it is there");
    let (head, body) = text.split_once("\r\n\r\n").expect("a head and a body");
    Reply { head: head.replacen("HTTP/1.0", "HTTP/1.1", 1), body: body.to_owned() }
}
