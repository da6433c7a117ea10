//! Previews as browsers and programs see them, over real sockets and with real servers.

mod http2;
mod lab;
mod ports;
mod programs;
mod requests;
