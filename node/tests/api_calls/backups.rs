use crate::server::{NOW_MS, Server, Setup, soon};
use mux_proto::mux::v1::SaveBackupRequest;
use mux_raft::backup::{BackupError, inspect};
use mux_raft::consensus::Consensus as _;
use mux_raft::machine::command::{CancelScope, Command, NewInvoice};
use mux_raft::machine::model::{InvoiceKind, InvoiceTerms};
use mux_raft::types::{Msat, PaymentHash, PaymentSecret};
use tonic::Code;

/// More than gRPC and the queue take ahead of who reads: 30 pieces.
const RECORDS: u8 = 120;
const TEXT: usize = 256 << 10;

/// Cancelled invoices, which are archived.
fn archive_much(server: &Server) {
    for number in 0..RECORDS {
        let terms = InvoiceTerms {
            kind: InvoiceKind::Stored,
            amount_msat: Msat(1_000),
            expires_at_ms: NOW_MS + 3_600_000,
            min_final_cltv: 80,
            key_epoch: 0,
        };
        let new = NewInvoice {
            hash: PaymentHash([number; 32]),
            secret: PaymentSecret([1; 32]),
            terms,
            payment_request: "x".repeat(TEXT),
            description: String::new(),
            description_hash: None,
        };
        server.run(Command::AddInvoice(Box::new(new)));
        let hash = PaymentHash([number; 32]);
        server.run(Command::CancelInvoice { hash, scope: CancelScope::Invoice });
    }
}

#[tokio::test]
async fn a_backup_from_which_retention_deletes_ends_with_the_word_to_save_it_again() {
    let server = Server::start(Setup::default()).await;
    archive_much(&server);
    let (archive, tip) =
        (server.consensus.state().archive(), server.consensus.state().read(|state| *state.archive_tip()));
    assert_eq!(tip.next, u64::from(RECORDS));
    let mut pieces =
        server.cluster().await.save_backup(SaveBackupRequest::default()).await.unwrap().into_inner();
    let mut bytes = soon(pieces.message()).await.unwrap().unwrap().data.to_vec();
    // As a snapshot does after log time has passed.
    let mut forgotten = tip;
    (forgotten.first, forgotten.first_hash) = (tip.next, tip.hash);
    archive.forget(&forgotten).unwrap();
    let ended = loop {
        match soon(pieces.message()).await {
            Ok(Some(piece)) => bytes.extend(piece.data),
            Ok(None) => panic!("it ended as if it were whole"),
            Err(status) => break status,
        }
    };
    assert_eq!(ended.code(), Code::Aborted);
    let said = ended.message();
    assert!(said.contains(" is missing; save the backup again"), "{said}");
    assert!(soon(pieces.message()).await.is_ok_and(|more| more.is_none()), "nothing follows");
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("backup");
    std::fs::write(&file, bytes).unwrap();
    assert!(matches!(inspect(&file), Err(BackupError::Damaged { .. })));
}
