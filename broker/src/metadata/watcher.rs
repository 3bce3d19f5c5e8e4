//! Turns the coordinator's change stream into one image after the other.
//!
//! An image is published when this broker has acted on it: partitions that an image shows as led
//! here do lead here already.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use ottla_common::cluster_tree::InvalidValue;
use ottla_common::coordination::subscription::{Subscription, SubscriptionEvent};
use ottla_common::shutdown::Shutdown;
use ottla_common::types::Zxid;
use tokio::sync::watch;
use tracing::{error, warn};

use super::image::{Delta, MetadataImage};

/// Where everybody finds the newest image.
#[derive(Clone, Debug)]
pub struct ImageHandle {
    image: Arc<ArcSwap<MetadataImage>>,
    zxid: watch::Receiver<Zxid>,
}

impl ImageHandle {
    /// The newest image.
    pub fn load(&self) -> Arc<MetadataImage> {
        self.image.load_full()
    }

    /// Tells of every image that is published after this call.
    pub fn changed(&self) -> watch::Receiver<Zxid> {
        let mut receiver = self.zxid.clone();
        receiver.mark_unchanged();
        receiver
    }

    /// Waits until the image shows the change `zxid`, at most `patience`. Returns whether it does.
    pub async fn reached(&self, zxid: Zxid, patience: Duration) -> bool {
        let mut receiver = self.zxid.clone();
        let reached = receiver.wait_for(|published| *published >= zxid);
        matches!(tokio::time::timeout(patience, reached).await, Ok(Ok(_)))
    }

    /// Waits until an image satisfies `condition`, at most `patience`. Returns it if so.
    pub async fn wait_until(
        &self,
        patience: Duration,
        condition: impl Fn(&MetadataImage) -> bool,
    ) -> Option<Arc<MetadataImage>> {
        let mut receiver = self.zxid.clone();
        let satisfied = receiver.wait_for(|_| condition(&self.load()));
        let found = tokio::time::timeout(patience, satisfied).await;
        matches!(found, Ok(Ok(_))).then(|| self.load())
    }
}

/// The side that publishes.
#[derive(Debug)]
pub struct ImagePublisher {
    image: Arc<ArcSwap<MetadataImage>>,
    zxid: watch::Sender<Zxid>,
}

/// An empty image, to be replaced by the first snapshot.
pub fn image_channel() -> (ImagePublisher, ImageHandle) {
    let image = Arc::new(ArcSwap::from_pointee(MetadataImage::default()));
    let (sender, receiver) = watch::channel(Zxid(-1));
    let handle = ImageHandle { image: image.clone(), zxid: receiver };
    (ImagePublisher { image, zxid: sender }, handle)
}

impl ImagePublisher {
    /// Makes `image` the newest one.
    pub fn publish(&self, image: Arc<MetadataImage>) {
        let zxid = image.zxid;
        self.image.store(image);
        self.zxid.send_replace(zxid);
    }
}

/// Acts on a new image before it is published. May block.
pub type ApplyImage = Arc<dyn Fn(&MetadataImage, &Delta) + Send + Sync>;

/// Follows the tree until the signal is given.
pub async fn follow(
    mut subscription: Subscription,
    publisher: ImagePublisher,
    apply: ApplyImage,
    shutdown: Shutdown,
) {
    loop {
        let event = tokio::select! {
            () = shutdown.stopped() => return,
            event = subscription.next() => event,
        };
        let Some(event) = event else {
            if !shutdown.is_stopping() {
                error!("the coordinator's change stream has ended");
            }
            return;
        };
        let present = publisher.image.load_full();
        let (image, delta, invalid) = match event {
            SubscriptionEvent::Snapshot { zxid, nodes } => {
                let (image, mut delta, invalid) = MetadataImage::from_snapshot(zxid, &nodes);
                delta.topics.extend(present.topics.keys().cloned());
                (image, everything_changed(delta), invalid)
            }
            SubscriptionEvent::Changes { zxid, changes } => present.next(zxid, &changes),
        };
        warn_of(&invalid);
        let image = Arc::new(image);
        let (applied, apply) = (image.clone(), apply.clone());
        let done = tokio::task::spawn_blocking(move || apply(&applied, &delta)).await;
        if let Err(error) = done {
            error!(%error, zxid = %image.zxid, "acting on a new image failed");
        }
        publisher.publish(image);
    }
}

fn everything_changed(delta: Delta) -> Delta {
    Delta {
        brokers: true,
        controller: true,
        broker_configs: true,
        quotas: true,
        deleted_topics: true,
        ..delta
    }
}

fn warn_of(invalid: &[(String, InvalidValue)]) {
    for (path, error) in invalid {
        warn!(path, %error, "a value in the coordinator's tree cannot be read; it is passed over");
    }
}
