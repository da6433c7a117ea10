//! Everything that is not a request to the proxy: bytes passed on as they are, after a look at the first ones.
//!
//! If the first bytes name a host (TLS server name, HTTP Host), it has to be the one that the connection is for. A
//! protocol in which the server speaks first is passed on without a look. What the checks cannot see: the name inside
//! an Encrypted ClientHello, and what an allowed host does with what it is sent.

use std::{io, sync::Arc};

use bytes::{Bytes, BytesMut};
use offshoot_core::egress::HostName;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};

use super::{
    Shared, dial,
    hello::{self, Hello},
    http,
    refusal::Refusal,
    socket::Socket,
};

/// Of each direction. With smaller ones the copying costs more than the sockets do.
const BUFFER: usize = 64 * 1024;

/// A TLS alert of the record layer: fatal, access_denied. Clients show it; a closed connection tells them nothing.
const ACCESS_DENIED: [u8; 7] = [21, 3, 1, 0, 2, 2, 49];

/// A connection to the synthetic address of a name.
pub(crate) async fn to(shared: &Arc<Shared>, client: Socket, name: HostName, port: u16) {
    let admitted = shared.admit(&name, port, Some(client.as_fd()), client.activity()).await;
    let dialled = match admitted {
        Ok(destination) => dial::dial(shared, &destination, client.activity()).await,
        Err(refusal) => Err(refusal),
    };
    match dialled {
        Ok(server) => checked(shared, client, server, name, port).await,
        Err(refusal) => {
            let refusal = shared.refused(refusal);
            let refused = async {
                let (client, first) = first_bytes(client).await?;
                refuse(shared, client, first, &refusal).await
            };
            let _ = timeout(shared.options.limits.head, refused).await;
        }
    }
}

/// A connection that is for a name already: bytes pass once the first ones do not speak against it.
pub(crate) async fn checked(
    shared: &Arc<Shared>,
    client: Socket,
    mut server: Socket,
    name: HostName,
    port: u16,
) {
    // Who speaks first? A host that does is passed on, and so is one whose client only listens.
    tokio::select! {
        biased;
        _ = client.readable() => {}
        _ = server.readable() => return pass(client, server).await,
    }
    let Ok(Ok((client, first))) = timeout(shared.options.limits.head, first_bytes(client)).await else {
        return;
    };
    let found = match &first.kind {
        Kind::Http => {
            drop(server);
            let client = client.put_back(first.bytes);
            // Every request is looked at, not only the first.
            return Box::pin(http::serve(shared, client, http::Route::To(name, port))).await;
        }
        Kind::Other | Kind::Tls(None) => None,
        Kind::Tls(Some(found)) if *found == name => None,
        Kind::Tls(Some(found)) => Some(Refusal::Mismatch { asked: name.clone(), found: found.to_string() }),
        Kind::Malformed => Some(Refusal::Invalid { what: "TLS ClientHello", text: name.to_string() }),
    };
    if let Some(refusal) = found {
        let refusal = shared.refused(refusal);
        let _ = refuse(shared, client, first, &refusal).await;
        return;
    }
    if server.write_all(&first.bytes).await.is_ok() {
        pass(client, server).await;
    }
}

/// A connection to the address that a wildcard's names share: its first bytes have to say which it is for.
pub(crate) async fn by_visible_name(shared: &Arc<Shared>, client: Socket, port: u16) {
    let Ok(Ok((client, first))) = timeout(shared.options.limits.head, first_bytes(client)).await else {
        return;
    };
    let decided = match &first.kind {
        Kind::Http => {
            let client = client.put_back(first.bytes);
            return http::serve(shared, client, http::Route::Any(port)).await;
        }
        Kind::Tls(Some(name)) => shared.admit(name, port, Some(client.as_fd()), client.activity()).await,
        Kind::Malformed => Err(Refusal::Invalid { what: "TLS ClientHello", text: String::new() }),
        Kind::Tls(None) | Kind::Other => Err(Refusal::Nameless { port }),
    };
    let dialled = match decided {
        Ok(destination) => dial::dial(shared, &destination, client.activity()).await,
        Err(refusal) => Err(refusal),
    };
    match dialled {
        Ok(mut server) => {
            if server.write_all(&first.bytes).await.is_ok() {
                pass(client, server).await;
            }
        }
        Err(refusal) => {
            let refusal = shared.refused(refusal);
            let _ = refuse(shared, client, first, &refusal).await;
        }
    }
}

/// Both directions until both have ended; the end of one is passed on.
async fn pass(mut client: Socket, mut server: Socket) {
    let _ = tokio::io::copy_bidirectional_with_sizes(&mut client, &mut server, BUFFER, BUFFER).await;
}

/// Says no in the language that was spoken.
async fn refuse(shared: &Arc<Shared>, mut client: Socket, first: First, refusal: &Refusal) -> io::Result<()> {
    match first.kind {
        Kind::Tls(_) | Kind::Malformed => {
            client.write_all(&ACCESS_DENIED).await?;
            client.shutdown().await
        }
        Kind::Http => {
            let client = client.put_back(first.bytes);
            Box::pin(http::serve(shared, client, http::Route::Nowhere(refusal.clone()))).await;
            Ok(())
        }
        Kind::Other => client.shutdown().await,
    }
}

/// The first bytes of a connection.
struct First {
    kind: Kind,
    bytes: Bytes,
}

enum Kind {
    Http,
    Tls(Option<HostName>),
    Malformed,
    Other,
}

/// Reads until it is clear what is spoken.
async fn first_bytes(mut client: Socket) -> io::Result<(Socket, First)> {
    let mut bytes = BytesMut::with_capacity(4 * 1024);
    loop {
        let ended = client.read_buf(&mut bytes).await? == 0;
        let kind = match (hello::read(&bytes), is_http(&bytes)) {
            (_, Some(true)) => Kind::Http,
            (Hello::Whole(name), _) => Kind::Tls(name),
            (Hello::Malformed, _) => Kind::Malformed,
            (Hello::Partial, _) if ended && !bytes.is_empty() => Kind::Malformed,
            (Hello::Partial, _) | (_, None) if !ended => continue,
            _ => Kind::Other,
        };
        return Ok((client, First { kind, bytes: bytes.freeze() }));
    }
}

/// Whether bytes begin an HTTP/1 request; `None` if there are too few to tell.
fn is_http(bytes: &[u8]) -> Option<bool> {
    const METHODS: [&[u8]; 9] =
        [b"GET ", b"HEAD ", b"POST ", b"PUT ", b"DELETE ", b"CONNECT ", b"OPTIONS ", b"TRACE ", b"PATCH "];
    if METHODS.iter().any(|method| bytes.starts_with(method)) {
        return Some(true);
    }
    if METHODS.iter().any(|method| method.starts_with(bytes)) { None } else { Some(false) }
}
