//! An actor of one's own that holds a `Handle`: its state lives in the engine, so that it can stop, start again,
//! or share the keys with another actor, and nothing is lost.
//!
//! Run it with `cargo run --example in_an_actor`.

use std::convert::Infallible;

use anabranch::{Engine, Handle};
use kameo::Actor;
use kameo::actor::{ActorRef, Spawn};
use kameo::error::SendError;
use kameo::message::{Context, Message};

/// A warehouse. It keeps nothing but the handle, which is cheap to clone and finds the engine from any task.
struct Warehouse {
    stock: Handle<String, u32>,
}

impl Actor for Warehouse {
    type Args = Self;
    type Error = Infallible;

    async fn on_start(args: Self, _: ActorRef<Self>) -> Result<Self, Infallible> {
        Ok(args)
    }
}

#[derive(Debug, thiserror::Error)]
enum StockError {
    #[error("{wanted} of {item} wanted, {there} there")]
    TooFew { item: String, wanted: u32, there: u32 },
    #[error("the engine: {0}")]
    Engine(#[from] anabranch::Error),
    #[error("the warehouse is closed")]
    Closed,
}

/// A failed request is the sender's to handle; the actor goes on.
impl<M> From<SendError<M, Self>> for StockError {
    fn from(error: SendError<M, Self>) -> Self {
        match error {
            SendError::HandlerError(error) => error,
            _ => Self::Closed,
        }
    }
}

/// Goods came in. Answered with the new stock.
struct Receive(&'static str, u32);

impl Message<Receive> for Warehouse {
    type Reply = Result<u32, StockError>;

    async fn handle(
        &mut self,
        Receive(item, count): Receive,
        _: &mut Context<Self, Self::Reply>,
    ) -> Self::Reply {
        let add = move |there: Option<&u32>| Some(there.copied().unwrap_or(0) + count);
        let stock = self.stock.update(item.into(), add).await?;
        Ok(stock.map_or(0, |stock| *stock))
    }
}

/// An order of several items: all of them, or none.
struct Order(&'static [(&'static str, u32)]);

impl Message<Order> for Warehouse {
    type Reply = Result<(), StockError>;

    async fn handle(&mut self, Order(items): Order, _: &mut Context<Self, Self::Reply>) -> Self::Reply {
        self.stock
            .transaction(|txn| {
                for &(item, wanted) in items {
                    let there = txn.get(item)?.map_or(0, |stock| *stock);
                    let too_few = || StockError::TooFew { item: item.into(), wanted, there };
                    txn.insert(item.into(), there.checked_sub(wanted).ok_or_else(too_few)?);
                }
                Ok(())
            })
            .await
    }
}

#[tokio::main]
async fn main() -> Result<(), StockError> {
    let engine: Engine<String, u32> = Engine::builder().in_memory().await?;

    // Two actors over the same keys: the engine, not a mailbox, keeps them apart.
    let north = Warehouse::spawn(Warehouse { stock: engine.handle() });
    let south = Warehouse::spawn(Warehouse { stock: engine.handle() });
    println!("apples: {}", north.ask(Receive("apples", 10)).await?);
    println!("pears:  {}", south.ask(Receive("pears", 4)).await?);

    let orders: [Order; 3] = [
        Order(&[("apples", 3), ("pears", 2)]),
        Order(&[("apples", 1), ("pears", 9)]),
        Order(&[("apples", 7)]),
    ];
    for (order, warehouse) in orders.into_iter().zip([&north, &south, &north]) {
        let items = order.0;
        match warehouse.ask(order).await.map_err(StockError::from) {
            Ok(()) => println!("shipped {items:?}"),
            Err(error @ StockError::TooFew { .. }) => println!("refused {items:?}: {error}"),
            Err(error) => return Err(error),
        }
    }

    // An actor that is gone takes nothing with it.
    north.kill();
    north.wait_for_shutdown().await;
    for entry in engine.handle().range(..) {
        let (item, count) = entry?;
        println!("left: {count} {item}");
    }
    Ok(engine.close().await?)
}
