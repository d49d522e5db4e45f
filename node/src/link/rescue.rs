//! Closing a channel so that LND claims a settled HTLC on chain.

use crate::lnd::{LndClient, LndError};
use mux_proto::lnrpc::{ChannelPoint, channel_point::FundingTxid};
use tonic::Code;

/// Force-closes the channel with this short id. One that is not open (any more) is being closed already, by
/// the peer or another replica: there is nothing left to do.
pub(super) async fn force_close(client: &LndClient, chan_id: u64) -> Result<(), LndError> {
    const CALL: &str = "CloseChannel";
    let refuse = |message: &str| LndError::Rpc { call: CALL, code: Code::NotFound, message: message.into() };
    let channels = client.list_channels().await?;
    let channel = channels.iter().find(|channel| channel.chan_id == chan_id);
    let Some(channel) = channel else { return Ok(()) };
    let point =
        parse_point(&channel.channel_point).ok_or_else(|| refuse("LND's channel point is unreadable"))?;
    client.force_close(point).await
}

/// `txid:index`.
fn parse_point(text: &str) -> Option<ChannelPoint> {
    let (txid, index) = text.split_once(':')?;
    Some(ChannelPoint {
        output_index: index.parse().ok()?,
        funding_txid: Some(FundingTxid::FundingTxidStr(txid.to_owned())),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channel_points_are_read_as_lnd_prints_them() {
        let point = parse_point("ab:7").unwrap();
        assert_eq!(point.output_index, 7);
        assert_eq!(point.funding_txid, Some(FundingTxid::FundingTxidStr("ab".into())));
        assert!(parse_point("ab").is_none() && parse_point("ab:x").is_none());
    }
}
