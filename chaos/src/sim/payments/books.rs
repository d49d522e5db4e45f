use super::Payments;
use crate::cluster::{ReplicaClient, read_all};
use crate::ledger::ReplicaView;
use std::collections::BTreeSet;

/// What every replica says of every invoice that was paid.
pub type Books = Vec<ReplicaView>;

/// Reads them, by linearizable reads at each replica.
pub(super) async fn take(payments: &Payments, clients: Vec<(u64, ReplicaClient)>) {
    let shared = &payments.shared;
    let paid = shared.ledger.snapshot();
    let ours = paid.iter().filter(|payment| !payment.order.foreign);
    let hashes: BTreeSet<_> = ours.map(|payment| payment.order.hash).collect();
    let mut books = Books::new();
    for (id, client) in clients {
        let (invoices, unread) = read_all(&client, &hashes).await;
        let name = format!("replica {id}");
        books.push(ReplicaView { name, invoices, unread, ..ReplicaView::default() });
    }
    *shared.books.lock() = Some(books);
}

impl Payments {
    /// The books, once they are there.
    #[must_use]
    pub fn take_books(&self) -> Option<Books> {
        self.shared.books.lock().take()
    }
}
