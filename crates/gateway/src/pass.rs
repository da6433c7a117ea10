//! Bytes between two connections, both ways.

use crate::egress::socket::Socket;

/// A buffer each way: as large as a loopback socket hands out at once.
const BUFFER: usize = 128 * 1024;

/// Until both directions have ended; the end of one is passed on.
pub(crate) async fn both_ways(mut one: Socket, mut other: Socket) {
    let _ = tokio::io::copy_bidirectional_with_sizes(&mut one, &mut other, BUFFER, BUFFER).await;
}
