//! Bytes between two connections, both ways, until both have ended.
//!
//! A direction is copied, which is the quickest for messages and queries, and goes on inside the kernel (splice, by a
//! pipe) as long as it is a flood.

use std::{io, os::fd::OwnedFd, sync::Arc};

use bytes::Bytes;
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, Interest},
    net::tcp::{OwnedReadHalf, OwnedWriteHalf},
};

use crate::egress::socket::{Activity, Socket};

/// Of a direction that is copied. Small, because most connections stay idle.
const BUFFER: usize = 16 * 1024;
/// Full buffers in a row that are a flood, and lesser amounts in a row that are none any more.
const FULL: u32 = 16;
const LESS: u32 = 8;
/// Of a pipe: what one splice may move. An ordinary user may have 64 MiB of pipes (`pipe-user-pages-soft`); beyond,
/// they stay at what the kernel gives.
const PIPE: usize = 512 * 1024;

/// Until both directions have ended; the end of one is passed on, and a break of one is one of both.
pub(crate) async fn both_ways(one: Socket, other: Socket) {
    let activity = Arc::clone(one.activity());
    let (one, of_one) = one.into_stream();
    let (other, of_other) = other.into_stream();
    let (one_read, one_write) = one.into_split();
    let (other_read, other_write) = other.into_split();
    let _ = tokio::try_join!(
        one_way(one_read, of_one, other_write, &activity),
        one_way(other_read, of_other, one_write, &activity)
    );
}

async fn one_way(
    mut from: OwnedReadHalf,
    ahead: Bytes,
    mut to: OwnedWriteHalf,
    activity: &Activity,
) -> io::Result<()> {
    to.write_all(&ahead).await?;
    drop(ahead);
    let mut pipe = None;
    loop {
        if copied(&mut from, &mut to, activity).await? == Ended::Whole {
            return to.shutdown().await;
        }
        // Without a pipe (too many open files) it is copied on.
        let opened = match pipe.take() {
            Some(opened) => Ok(opened),
            None => pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC),
        };
        let Ok(opened) = opened else { continue };
        let _ = fcntl_setpipe_size(&opened.1, PIPE);
        if spliced(&from, &to, &opened, activity).await? == Ended::Whole {
            return to.shutdown().await;
        }
        pipe = Some(opened);
    }
}

/// How a way of passing ended.
#[derive(PartialEq, Eq)]
enum Ended {
    /// With the direction.
    Whole,
    /// The other way is better by now.
    Part,
}

/// Copies until it is a flood.
async fn copied(from: &mut OwnedReadHalf, to: &mut OwnedWriteHalf, activity: &Activity) -> io::Result<Ended> {
    let mut buffer = vec![0; BUFFER];
    let mut full = 0;
    while full < FULL {
        let length = from.read(&mut buffer).await?;
        activity.touch();
        if length == 0 {
            return Ok(Ended::Whole);
        }
        to.write_all(&buffer[..length]).await?;
        activity.touch();
        full = if length == BUFFER { full + 1 } else { 0 };
    }
    Ok(Ended::Part)
}

/// Splices until it is no flood any more.
async fn spliced(
    from: &OwnedReadHalf,
    to: &OwnedWriteHalf,
    (out, into): &(OwnedFd, OwnedFd),
    activity: &Activity,
) -> io::Result<Ended> {
    let flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
    let (from, to) = (from.as_ref(), to.as_ref());
    let mut less = 0;
    while less < LESS {
        let mut held =
            from.async_io(Interest::READABLE, || Ok(splice(from, None, into, None, PIPE, flags)?)).await?;
        activity.touch();
        if held == 0 {
            return Ok(Ended::Whole);
        }
        less = if held < BUFFER { less + 1 } else { 0 };
        while held > 0 {
            held -= to.async_io(Interest::WRITABLE, || Ok(splice(out, None, to, None, held, flags)?)).await?;
            activity.touch();
        }
    }
    Ok(Ended::Part)
}
