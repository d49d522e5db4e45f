//! Two LDK nodes with a channel between them, driven by hand: no network, no disk, no chain but one block.

use bitcoin::absolute::LockTime;
use bitcoin::block::{Header, Version as BlockVersion};
use bitcoin::hashes::Hash as _;
use bitcoin::transaction::Version;
use bitcoin::{
    Amount, BlockHash, CompactTarget, Network, OutPoint, Script, ScriptBuf, Sequence, Transaction, TxIn,
    TxMerkleNode, TxOut, Txid, Witness,
};
use lightning::blinded_path::message::{BlindedMessagePath, MessageContext, MessageForwardNode};
use lightning::blinded_path::payment::{BlindedPaymentPath, ReceiveTlvs};
use lightning::chain::chaininterface::{BroadcasterInterface, ConfirmationTarget, FeeEstimator};
use lightning::chain::chainmonitor::{ChainMonitor, Persist};
use lightning::chain::channelmonitor::{ChannelMonitor, ChannelMonitorUpdate};
use lightning::chain::{BestBlock, ChannelMonitorUpdateStatus, Confirm, Filter, WatchedOutput};
use lightning::events::{Event, EventsProvider as _};
use lightning::ln::channel_state::ChannelDetails;
use lightning::ln::channelmanager::{ChainParameters, ChannelManager};
use lightning::ln::msgs::{
    BaseMessageHandler as _, ChannelMessageHandler as _, Init, MessageSendEvent, UpdateAddHTLC,
    UpdateFailHTLC,
};
use lightning::onion_message::messenger::{Destination, MessageRouter, OnionMessagePath};
use lightning::routing::router::{InFlightHtlcs, Route, RouteParameters, Router};
use lightning::sign::{InMemorySigner, KeysManager, NodeSigner as _, ReceiveAuthKey};
use lightning::util::config::UserConfig;
use lightning::util::logger::{Logger, Record};
use lightning::util::persist::MonitorName;
use lightning::util::ser::{LengthReadable as _, Writeable as _};
use secp256k1::{PublicKey, Secp256k1};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

/// Of the only block, in which the channel is confirmed.
pub(crate) const HEIGHT: u32 = 1;

type Monitors = ChainMonitor<
    InMemorySigner,
    Arc<Outside>,
    Arc<Outside>,
    Arc<Outside>,
    Arc<Outside>,
    Arc<Outside>,
    Arc<KeysManager>,
>;

type Manager = ChannelManager<
    Arc<Monitors>,
    Arc<Outside>,
    Arc<KeysManager>,
    Arc<KeysManager>,
    Arc<KeysManager>,
    Arc<Outside>,
    Arc<Outside>,
    Arc<Outside>,
    Arc<Outside>,
>;

/// Everything that an LDK node wants of the world; remembers what it is told.
#[derive(Default)]
pub(crate) struct Outside {
    log: Mutex<Vec<String>>,
}

impl Outside {
    pub(crate) fn clear_log(&self) {
        self.log.lock().unwrap().clear();
    }

    /// What LDK found out about the last failure.
    pub(crate) fn onion_error(&self) -> String {
        let log = self.log.lock().unwrap();
        log.iter().filter(|line| line.contains("Onion Error")).cloned().collect::<Vec<_>>().join("\n")
    }
}

impl Logger for Outside {
    fn log(&self, record: Record<'_>) {
        self.log.lock().unwrap().push(record.args.to_string());
    }
}

impl FeeEstimator for Outside {
    fn get_est_sat_per_1000_weight(&self, _target: ConfirmationTarget) -> u32 {
        253
    }
}

impl BroadcasterInterface for Outside {
    fn broadcast_transactions(&self, _transactions: &[&Transaction]) {}
}

impl Filter for Outside {
    fn register_tx(&self, _txid: &Txid, _script: &Script) {}
    fn register_output(&self, _output: WatchedOutput) {}
}

impl Persist<InMemorySigner> for Outside {
    fn persist_new_channel(
        &self,
        _name: MonitorName,
        _monitor: &ChannelMonitor<InMemorySigner>,
    ) -> ChannelMonitorUpdateStatus {
        ChannelMonitorUpdateStatus::Completed
    }

    fn update_persisted_channel(
        &self,
        _name: MonitorName,
        _update: Option<&ChannelMonitorUpdate>,
        _monitor: &ChannelMonitor<InMemorySigner>,
    ) -> ChannelMonitorUpdateStatus {
        ChannelMonitorUpdateStatus::Completed
    }

    fn archive_persisted_channel(&self, _name: MonitorName) {}
}

impl Router for Outside {
    fn find_route(
        &self,
        _payer: &PublicKey,
        _parameters: &RouteParameters,
        _first_hops: Option<&[&ChannelDetails]>,
        _inflight: InFlightHtlcs,
    ) -> Result<Route, &'static str> {
        Err("routes are given by the test")
    }

    fn create_blinded_payment_paths<T: secp256k1::Signing + secp256k1::Verification>(
        &self,
        _recipient: PublicKey,
        _first_hops: Vec<ChannelDetails>,
        _tlvs: ReceiveTlvs,
        _amount_msat: Option<u64>,
        _context: &Secp256k1<T>,
    ) -> Result<Vec<BlindedPaymentPath>, ()> {
        Err(())
    }
}

impl MessageRouter for Outside {
    fn find_path(
        &self,
        _sender: PublicKey,
        _peers: Vec<PublicKey>,
        _destination: Destination,
    ) -> Result<OnionMessagePath, ()> {
        Err(())
    }

    fn create_blinded_paths<T: secp256k1::Signing + secp256k1::Verification>(
        &self,
        _recipient: PublicKey,
        _key: ReceiveAuthKey,
        _context: MessageContext,
        _peers: Vec<MessageForwardNode>,
        _secp: &Secp256k1<T>,
    ) -> Result<Vec<BlindedMessagePath>, ()> {
        Err(())
    }
}

pub(crate) struct Node {
    pub(crate) manager: Manager,
    pub(crate) keys: Arc<KeysManager>,
    pub(crate) outside: Arc<Outside>,
    monitors: Arc<Monitors>,
}

impl Node {
    fn new(seed: u8) -> Self {
        let outside = Arc::new(Outside::default());
        let keys = Arc::new(KeysManager::new(&[seed; 32], 1_760_000_000, 0, true));
        let monitors = Arc::new(ChainMonitor::new(
            None,
            outside.clone(),
            outside.clone(),
            outside.clone(),
            outside.clone(),
            keys.clone(),
            keys.get_peer_storage_key(),
        ));
        let mut config = UserConfig::default();
        config.channel_handshake_config.minimum_depth = 1;
        config.channel_handshake_config.max_inbound_htlc_value_in_flight_percent_of_channel = 100;
        let parameters = ChainParameters {
            network: Network::Regtest,
            best_block: BestBlock::from_network(Network::Regtest),
        };
        let manager = ChannelManager::new(
            outside.clone(),
            monitors.clone(),
            outside.clone(),
            outside.clone(),
            outside.clone(),
            outside.clone(),
            keys.clone(),
            keys.clone(),
            keys.clone(),
            config,
            parameters,
            1_760_000_000,
        );
        Self { manager, keys, outside, monitors }
    }

    fn id(&self) -> PublicKey {
        self.manager.get_our_node_id()
    }

    pub(crate) fn events(&self) -> Vec<Event> {
        let events = Mutex::new(Vec::new());
        self.manager.process_pending_events(&|event| {
            events.lock().unwrap().push(event);
            Ok(())
        });
        events.into_inner().unwrap()
    }

    fn confirm(&self, header: &Header, transaction: &Transaction) {
        let chain: [&dyn Confirm; 2] = [&*self.monitors, &self.manager];
        for listener in chain {
            listener.transactions_confirmed(header, &[(1, transaction)], HEIGHT);
            listener.best_block_updated(header, HEIGHT);
        }
    }
}

/// A payer and a front node with a channel.
pub(crate) struct Pair {
    pub(crate) payer: Node,
    pub(crate) front: Node,
    /// Set while a test wants to see what the front node is offered, and to say how it fails.
    seen: Option<UpdateAddHTLC>,
    failure: Option<Vec<u8>>,
}

impl Pair {
    /// With a channel of a million satoshi on the payer's side.
    pub(crate) fn connected() -> Self {
        let mut pair = Self { payer: Node::new(11), front: Node::new(12), seen: None, failure: None };
        for (one, other, inbound) in [(&pair.payer, &pair.front, false), (&pair.front, &pair.payer, true)] {
            let features = other.manager.provided_init_features(one.id());
            let init = Init { features, networks: None, remote_network_address: None };
            one.manager.peer_connected(other.id(), &init, inbound).unwrap();
        }
        pair.payer.manager.create_channel(pair.front.id(), 1_000_000, 0, 1, None, None).unwrap();
        pair.exchange();
        let funding = pair.fund();
        pair.exchange();
        let header = Header {
            version: BlockVersion::NO_SOFT_FORK_SIGNALLING,
            prev_blockhash: BlockHash::all_zeros(),
            merkle_root: TxMerkleNode::all_zeros(),
            time: 1_760_000_000,
            bits: CompactTarget::from_consensus(0x207f_ffff),
            nonce: 0,
        };
        pair.payer.confirm(&header, &funding);
        pair.front.confirm(&header, &funding);
        pair.exchange();
        assert!(pair.payer.manager.list_channels().iter().all(|channel| channel.is_usable));
        pair.payer.events();
        pair
    }

    fn fund(&self) -> Transaction {
        for event in self.payer.events() {
            if let Event::FundingGenerationReady {
                temporary_channel_id,
                counterparty_node_id,
                channel_value_satoshis,
                output_script,
                ..
            } = event
            {
                let transaction = funding(channel_value_satoshis, output_script);
                self.payer
                    .manager
                    .funding_transaction_generated(
                        temporary_channel_id,
                        counterparty_node_id,
                        transaction.clone(),
                    )
                    .unwrap();
                return transaction;
            }
        }
        panic!("LDK did not ask for a funding transaction: {:?}", self.payer.outside.log)
    }

    pub(crate) fn front_id(&self) -> PublicKey {
        self.front.id()
    }

    /// Of the channel between the two.
    pub(crate) fn scid(&self) -> u64 {
        self.payer.manager.list_channels()[0].short_channel_id.unwrap()
    }

    /// Commits the HTLC that the payer has sent, and shows it.
    pub(crate) fn deliver_htlc(&mut self) -> UpdateAddHTLC {
        self.exchange();
        self.seen.take().expect("the payer sent an HTLC")
    }

    /// Lets the front node fail the HTLC, with this packet instead of its own.
    pub(crate) fn fail_htlc(&mut self, packet: &[u8]) {
        self.failure = Some(packet.to_vec());
        // Once to find out that it cannot be forwarded, once to fail it.
        for _ in 0..2 {
            self.front.manager.process_pending_htlc_forwards();
            self.exchange();
        }
        assert!(self.failure.is_none(), "the front node did not fail the HTLC");
    }

    /// Passes messages until both are silent.
    fn exchange(&mut self) {
        loop {
            let mut queue: VecDeque<(bool, MessageSendEvent)> = VecDeque::new();
            queue
                .extend(self.payer.manager.get_and_clear_pending_msg_events().into_iter().map(|m| (true, m)));
            queue.extend(
                self.front.manager.get_and_clear_pending_msg_events().into_iter().map(|m| (false, m)),
            );
            if queue.is_empty() {
                return;
            }
            for (from_payer, message) in queue {
                self.pass(from_payer, message);
            }
        }
    }

    fn pass(&mut self, from_payer: bool, message: MessageSendEvent) {
        let (from, to) = if from_payer { (&self.payer, &self.front) } else { (&self.front, &self.payer) };
        let (id, to) = (from.id(), &to.manager);
        match message {
            MessageSendEvent::SendOpenChannel { msg, .. } => to.handle_open_channel(id, &msg),
            MessageSendEvent::SendAcceptChannel { msg, .. } => to.handle_accept_channel(id, &msg),
            MessageSendEvent::SendFundingCreated { msg, .. } => to.handle_funding_created(id, &msg),
            MessageSendEvent::SendFundingSigned { msg, .. } => to.handle_funding_signed(id, &msg),
            MessageSendEvent::SendChannelReady { msg, .. } => to.handle_channel_ready(id, &msg),
            MessageSendEvent::SendRevokeAndACK { msg, .. } => to.handle_revoke_and_ack(id, &msg),
            MessageSendEvent::UpdateHTLCs { updates, .. } => {
                for add in &updates.update_add_htlcs {
                    self.seen = Some(add.clone());
                    to.handle_update_add_htlc(id, add);
                }
                for fail in &updates.update_fail_htlcs {
                    let packet = self.failure.take().expect("nothing fails unasked");
                    to.handle_update_fail_htlc(id, &with_reason(fail, &packet));
                }
                to.handle_commitment_signed(id, &updates.commitment_signed[0]);
            }
            MessageSendEvent::SendChannelUpdate { .. }
            | MessageSendEvent::SendAnnouncementSignatures { .. }
            | MessageSendEvent::BroadcastChannelUpdate { .. } => {}
            other => panic!("unexpected: {other:?}"),
        }
    }
}

/// LDK does not let a message's reason be set; its wire form can be.
fn with_reason(fail: &UpdateFailHTLC, packet: &[u8]) -> UpdateFailHTLC {
    let mut wire = fail.channel_id.encode();
    wire.extend_from_slice(&fail.htlc_id.to_be_bytes());
    wire.extend_from_slice(&u16::try_from(packet.len()).unwrap().to_be_bytes());
    wire.extend_from_slice(packet);
    UpdateFailHTLC::read_from_fixed_length_buffer(&mut wire.as_slice()).unwrap()
}

/// Pays a channel out of nowhere.
fn funding(value_sat: u64, script_pubkey: ScriptBuf) -> Transaction {
    Transaction {
        version: Version::TWO,
        lock_time: LockTime::ZERO,
        input: vec![TxIn {
            previous_output: OutPoint { txid: Txid::from_byte_array([7; 32]), vout: 0 },
            script_sig: ScriptBuf::new(),
            sequence: Sequence::MAX,
            witness: Witness::from_slice(&[[1]]),
        }],
        output: vec![TxOut { value: Amount::from_sat(value_sat), script_pubkey }],
    }
}
