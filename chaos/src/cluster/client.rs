//! Calls one replica's `mux.v1` API as any client does: TLS with the cluster's certificate, macaroon,
//! deadlines.

use mux_proto::lnmux::{self, service_client::ServiceClient as LnmuxClient};
use mux_proto::mux::v1::{
    AddInvoiceRequest, AddInvoiceResponse, AddMemberRequest, CancelInvoiceRequest, Consistency,
    GetInvoiceRequest, GetStatusRequest, GetStatusResponse, Invoice, ListInvoicesRequest,
    RemoveMemberRequest, Settings, SettleInvoiceRequest, SubscribeEventsRequest, SubscribeEventsResponse,
    TransferLeaderRequest, UpdateSettingsRequest, cluster_service_client::ClusterServiceClient,
    invoice_service_client::InvoiceServiceClient,
};
use mux_raft::{
    network::{ChannelError, PeerChannel},
    types::PaymentHash,
};
use std::{error::Error as _, net::SocketAddr, path::Path, time::Duration};
use tonic::{
    Code, ConnectError, Request, Status, Streaming,
    metadata::AsciiMetadataValue,
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Certificate, ClientTlsConfig, Endpoint},
};
use tower::ServiceExt as _;

/// Longer than a replica's own deadline for a write, so that its answer is what one sees.
const CALL_TIMEOUT: Duration = Duration::from_secs(8);

/// For calls that only ask one replica about itself.
const STATUS_TIMEOUT: Duration = Duration::from_secs(2);

/// Invoices asked for at a time.
const PAGE: u32 = 500;

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The files or the address are no use.
    #[error("client: {0}")]
    Setup(String),
    /// No connection, or no answer in time: unknown outcome.
    #[error("no answer: {0}")]
    NoAnswer(String),
    /// The replica said no.
    #[error("{0}")]
    Status(Box<Status>),
}

impl CallError {
    /// The gRPC code, if the replica answered.
    #[must_use]
    pub fn code(&self) -> Option<Code> {
        match self {
            Self::Status(status) => Some(status.code()),
            Self::Setup(_) | Self::NoAnswer(_) => None,
        }
    }

    /// The code, if these are a replica's own words and not those of the connection to it.
    #[must_use]
    pub fn said(&self) -> Option<Code> {
        match self {
            Self::Status(status) if status.source().is_none() => Some(status.code()),
            _ => None,
        }
    }

    /// There was no connection, so the call was not even sent.
    #[must_use]
    pub fn never_sent(&self) -> bool {
        let Self::Status(status) = self else { return matches!(self, Self::Setup(_)) };
        let mut cause = status.source();
        while let Some(error) = cause {
            // The connector's own error has no type that could be asked for; a simulated network's has.
            if error.is::<ConnectError>() || error.to_string().contains("tcp connect error") {
                return true;
            }
            cause = error.source();
        }
        false
    }
}

impl From<Status> for CallError {
    fn from(status: Status) -> Self {
        Self::Status(Box::new(status))
    }
}

/// `None`: nobody asks for one.
#[derive(Clone)]
struct Macaroon(Option<AsciiMetadataValue>);

impl Interceptor for Macaroon {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(value) = &self.0 {
            request.metadata_mut().insert("macaroon", value.clone());
        }
        Ok(request)
    }
}

type Service = InterceptedService<PeerChannel, Macaroon>;

/// A client of one replica. Connects by itself, again and again; cheap to clone.
#[derive(Clone)]
pub struct ReplicaClient {
    cluster: ClusterServiceClient<Service>,
    invoices: InvoiceServiceClient<Service>,
    lnmux: LnmuxClient<Service>,
}

impl ReplicaClient {
    /// A client for the replica whose files are in `dir`.
    ///
    /// # Errors
    /// [`CallError::Setup`], if the files cannot be read.
    pub fn new(address: SocketAddr, dir: &Path) -> Result<Self, CallError> {
        let setup = |error: &dyn std::fmt::Display| CallError::Setup(error.to_string());
        let cert = std::fs::read(dir.join("api.pem")).map_err(|error| setup(&error))?;
        let macaroon = std::fs::read(dir.join("admin.macaroon")).map_err(|error| setup(&error))?;
        let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(cert)).domain_name("localhost");
        let channel = Endpoint::from_shared(format!("https://{address}"))
            .and_then(|endpoint| endpoint.tls_config(tls))
            .map_err(|error| setup(&error))?
            .connect_timeout(STATUS_TIMEOUT)
            .connect_lazy();
        let mut value = AsciiMetadataValue::try_from(hex::encode(macaroon)).map_err(|error| setup(&error))?;
        value.set_sensitive(true);
        let channel = PeerChannel::new(channel.map_err(ChannelError::new));
        Ok(Self::with(channel, Macaroon(Some(value))))
    }

    /// Over a channel to a replica that asks nobody for a macaroon.
    #[must_use]
    pub fn over(channel: PeerChannel) -> Self {
        Self::with(channel, Macaroon(None))
    }

    fn with(channel: PeerChannel, macaroon: Macaroon) -> Self {
        Self {
            cluster: ClusterServiceClient::with_interceptor(channel.clone(), macaroon.clone()),
            invoices: InvoiceServiceClient::with_interceptor(channel.clone(), macaroon.clone()),
            lnmux: LnmuxClient::with_interceptor(channel, macaroon),
        }
    }

    /// The cluster as this replica sees it.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn status(&self) -> Result<GetStatusResponse, CallError> {
        call(STATUS_TIMEOUT, self.cluster.clone().get_status(GetStatusRequest {})).await
    }

    /// Makes an invoice.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn add_invoice(&self, request: AddInvoiceRequest) -> Result<AddInvoiceResponse, CallError> {
        call(CALL_TIMEOUT, self.invoices.clone().add_invoice(request)).await
    }

    /// A linearizable read; `None`: this replica answers that there is no such invoice.
    ///
    /// # Errors
    /// [`CallError`], if there is no answer to the question.
    pub async fn invoice(&self, hash: PaymentHash) -> Result<Option<Invoice>, CallError> {
        let request =
            GetInvoiceRequest { hash: hash.0.to_vec().into(), consistency: Consistency::Linearizable.into() };
        match call(CALL_TIMEOUT, self.invoices.clone().get_invoice(request)).await {
            Ok(response) => Ok(response.invoice),
            Err(error) if error.code() == Some(Code::NotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Every invoice this replica knows of, by linearizable reads.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn list_invoices(&self) -> Result<Vec<Invoice>, CallError> {
        let mut all = Vec::new();
        let mut after_add_index = 0;
        loop {
            let request = ListInvoicesRequest {
                after_add_index,
                limit: PAGE,
                consistency: Consistency::Linearizable.into(),
                ..ListInvoicesRequest::default()
            };
            let page = call(CALL_TIMEOUT, self.invoices.clone().list_invoices(request)).await?;
            all.extend(page.invoices);
            if page.next_add_index <= after_add_index {
                return Ok(all);
            }
            after_add_index = page.next_add_index;
        }
    }

    /// Cancels an invoice for good.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn cancel(&self, hash: PaymentHash, payment_request: &str) -> Result<(), CallError> {
        let request = CancelInvoiceRequest {
            hash: hash.0.to_vec().into(),
            payment_request: payment_request.to_owned(),
            ..CancelInvoiceRequest::default()
        };
        call(CALL_TIMEOUT, self.invoices.clone().cancel_invoice(request)).await.map(drop)
    }

    /// Settles what is accepted.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn settle(&self, hash: PaymentHash) -> Result<u64, CallError> {
        let request =
            SettleInvoiceRequest { hash: hash.0.to_vec().into(), ..SettleInvoiceRequest::default() };
        Ok(call(CALL_TIMEOUT, self.invoices.clone().settle_invoice(request)).await?.decision_index)
    }

    /// Every event after this one.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn events(&self, after_sequence: u64) -> Result<Streaming<SubscribeEventsResponse>, CallError> {
        let request = SubscribeEventsRequest { after_sequence, ..SubscribeEventsRequest::default() };
        call(CALL_TIMEOUT, self.invoices.clone().subscribe_events(request)).await
    }

    /// How a decided invoice ended, as applications of lnmux see it; waits for the end.
    ///
    /// # Errors
    /// [`CallError`]; without an end in time, [`CallError::NoAnswer`].
    pub async fn lnmux_final_status(&self, hash: PaymentHash) -> Result<lnmux::InvoiceStatus, CallError> {
        let request = lnmux::WaitForInvoiceFinalStatusRequest { hash: hash.0.to_vec().into() };
        let mut client = self.lnmux.clone();
        Ok(call(CALL_TIMEOUT, client.wait_for_invoice_final_status(request)).await?.invoice_status())
    }

    /// Hands leadership over; 0: to any replica at the tip.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn transfer_leader(&self, target: u64) -> Result<u64, CallError> {
        let request = TransferLeaderRequest { target };
        Ok(call(CALL_TIMEOUT, self.cluster.clone().transfer_leader(request)).await?.leader)
    }

    /// Adds a replica that runs, and waits until it votes.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn add_member(&self, id: u64, address: &str, within: Duration) -> Result<(), CallError> {
        let address = address.to_owned();
        let mut request = Request::new(AddMemberRequest { id, address, wait_and_promote: true });
        request.set_timeout(within);
        call(within, self.cluster.clone().add_member(request)).await.map(drop)
    }

    /// Removes a replica for good.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn remove_member(&self, id: u64, force: bool) -> Result<(), CallError> {
        let request = RemoveMemberRequest { id, force };
        call(CALL_TIMEOUT, self.cluster.clone().remove_member(request)).await.map(drop)
    }

    /// Changes how long an incomplete set may wait, and leaves the other settings as they are.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn set_mpp_timeout(&self, mpp_timeout_ms: u64) -> Result<(), CallError> {
        self.update_settings(Settings { mpp_timeout_ms: Some(mpp_timeout_ms), ..Settings::default() }).await
    }

    /// Changes the settings that are given, and leaves the others as they are.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn update_settings(&self, settings: Settings) -> Result<(), CallError> {
        let request = UpdateSettingsRequest { settings: Some(settings) };
        call(CALL_TIMEOUT, self.cluster.clone().update_settings(request)).await.map(drop)
    }
}

async fn call<T>(
    within: Duration,
    call: impl Future<Output = Result<tonic::Response<T>, Status>>,
) -> Result<T, CallError> {
    match tokio::time::timeout(within, call).await {
        Err(_) => Err(CallError::NoAnswer(format!("nothing within {within:?}"))),
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(status)) => Err(status.into()),
    }
}
