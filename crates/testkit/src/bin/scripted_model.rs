//! `offshoot-scripted-model [PORT]`: the scripted model server. The first line on stdout is
//! `LISTENING http://127.0.0.1:PORT`; without a port, or with 0, a free one is taken.

use std::io::Write;
use std::process::ExitCode;

fn main() -> ExitCode {
    let port = std::env::args().nth(1).map_or(Ok(0), |argument| argument.parse::<u16>());
    let Ok(port) = port else {
        eprintln!("usage: offshoot-scripted-model [PORT]");
        return ExitCode::from(2);
    };
    let served = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().and_then(
        |runtime| {
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
                println!("LISTENING http://{}", listener.local_addr()?);
                std::io::stdout().flush()?;
                offshoot_testkit::model::serve(listener).await
            })
        },
    );
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("offshoot-scripted-model: {error}");
            ExitCode::FAILURE
        }
    }
}
