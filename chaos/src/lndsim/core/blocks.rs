//! The chain's controls: blocks, lag, reorganisations.

use super::{Core, Rejected, Reply, memory::LoopInput, output::Output};
use mux_proto::lndsim::v1 as ctl;

/// How many blocks one call may mine; each is announced.
const MAX_BLOCKS: u32 = 10_000;

impl Core {
    pub(super) fn mine_blocks(&mut self, request: &ctl::MineBlocksRequest) -> Result<Reply, Rejected> {
        self.extend(request.blocks.max(1))?;
        Ok(Reply::Chain(self.db.chain.view()))
    }

    pub(super) fn set_height(&mut self, request: &ctl::SetHeightRequest) -> Result<Reply, Rejected> {
        let tip = self.db.chain.tip();
        if let Some(blocks) = request.height.checked_sub(tip).filter(|blocks| *blocks > 0) {
            self.extend(blocks)?;
        } else {
            self.db.chain.disconnect_to(request.height);
            self.dirty.chain = true;
            self.announce(self.db.chain.height());
        }
        Ok(Reply::Chain(self.db.chain.view()))
    }

    pub(super) fn reorg(&mut self, request: &ctl::ReorgRequest) -> Result<Reply, Rejected> {
        let tip = self.db.chain.tip();
        if request.depth == 0 || request.depth > tip.min(MAX_BLOCKS) {
            return Err(Rejected::Invalid(format!("depth must be 1..={}", tip.min(MAX_BLOCKS))));
        }
        self.db.chain.disconnect_to(tip.saturating_sub(request.depth));
        self.dirty.chain = true;
        self.extend(request.new_blocks)?;
        Ok(Reply::Chain(self.db.chain.view()))
    }

    pub(super) fn set_chain_view(&mut self, request: &ctl::SetChainViewRequest) -> Result<Reply, Rejected> {
        let chain = &mut self.db.chain;
        chain.frozen = request.frozen.unwrap_or(chain.frozen);
        chain.lag_blocks = request.lag_blocks.unwrap_or(chain.lag_blocks);
        chain.synced = request.synced_to_chain.unwrap_or(chain.synced);
        self.extend(0)?;
        Ok(Reply::Chain(self.db.chain.view()))
    }

    fn extend(&mut self, blocks: u32) -> Result<(), Rejected> {
        if blocks > MAX_BLOCKS {
            return Err(Rejected::Invalid(format!("at most {MAX_BLOCKS} blocks at a time")));
        }
        self.db.chain.mine(blocks);
        self.dirty.chain = true;
        while let Some(height) = self.db.chain.next_seen() {
            self.chain_block(height);
            self.announce(height);
            // One block at a time through the event loop, as LND's notifier feeds it.
            self.run_loop();
        }
        Ok(())
    }

    fn announce(&mut self, height: u32) {
        self.mem.queue.push_back(LoopInput::Block(height));
        self.outputs.push(Output::Block(self.db.chain.epoch(height)));
    }
}
