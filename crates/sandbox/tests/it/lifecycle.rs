//! Up, execute, input, signals, adoption, down.

use offshoot_sandbox::{Exit, Stdio, connect, journal::Kind};

use crate::stage::{Stage, exit, request, said, shell};

#[tokio::test]
async fn a_process_runs_and_its_journal_tells_all() {
    let stage = Stage::new();
    let connection = stage.up().await;
    let (exit, out, err) =
        shell(&connection, "one", "id -u; cat file; echo more > file; echo oops >&2; hostname; exit 3").await;
    assert_eq!(exit, Exit::Code(3), "{out}{err}");
    assert_eq!(out, format!("{}\nfrom the layer\nstage\n", stage.spec.identity.uid));
    assert_eq!(err, "oops\n");
    assert_eq!(std::fs::read_to_string(stage.path("upper/file")).unwrap(), "more\n");
    assert_eq!(std::fs::read_to_string(stage.path("lower/file")).unwrap(), "from the layer\n");
    connection.down().await.unwrap();
    assert!(matches!(connect(&stage.spec.dir).await, Err(offshoot_sandbox::ConnectError::Gone)));
}

#[tokio::test]
async fn input_reaches_the_process_and_ends() {
    let stage = Stage::new();
    let connection = stage.up().await;
    connection.exec(request("cat", &["cat"], Stdio::Journal)).await.unwrap();
    let text = "0123456789abcdef".repeat(20_000);
    connection.input("cat", text.as_bytes()).await.unwrap();
    connection.close_input("cat").await.unwrap();
    assert_eq!(exit(&connection, "cat").await, Exit::Code(0));
    assert_eq!(said(&connection, "cat", Kind::Stdout), text);
    assert_eq!(said(&connection, "cat", Kind::Stdin), text);
    connection.down().await.unwrap();
}
