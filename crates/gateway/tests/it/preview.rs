//! Previews as browsers and programs see them, over real sockets and with real servers.

mod lab;
mod ports;
mod requests;
