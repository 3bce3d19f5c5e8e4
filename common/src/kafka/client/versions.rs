//! Which version of each API two sides share (KIP-35).

use crate::kafka::messages::ApiKey;
use crate::kafka::messages::api_versions::ApiVersionsResponse;
use crate::kafka::request::Request;

/// The versions that a broker offers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ApiVersionRanges {
    /// Key, lowest and highest version, in the order of the keys.
    ranges: Vec<(i16, i16, i16)>,
}

impl ApiVersionRanges {
    pub(super) fn new(response: &ApiVersionsResponse) -> Self {
        let range = response.api_keys.iter();
        let mut ranges: Vec<_> =
            range.map(|api| (api.api_key, api.min_version, api.max_version)).collect();
        ranges.sort_unstable();
        Self { ranges }
    }

    /// The lowest and highest version of an API. `None` if it is not offered.
    pub fn offered(&self, key: ApiKey) -> Option<(i16, i16)> {
        let found = self.ranges.binary_search_by_key(&key.code(), |range| range.0).ok()?;
        self.ranges.get(found).map(|&(_, low, high)| (low, high))
    }

    /// The highest version that both sides speak, at most `limit`.
    pub fn best<R: Request>(&self, limit: i16) -> Option<i16> {
        let (low, high) = self.offered(R::KEY)?;
        let version = high.min(stable_max::<R>()).min(limit);
        (version >= low && version >= R::MIN_VERSION).then_some(version)
    }
}

/// The highest version that a client should speak unasked.
fn stable_max<R: Request>() -> i16 {
    R::MAX_VERSION - i16::from(R::LATEST_UNSTABLE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::messages::api_versions::response::ApiVersion;
    use crate::kafka::messages::init_producer_id::InitProducerIdRequest;
    use crate::kafka::messages::produce::ProduceRequest;

    fn offering(key: ApiKey, min_version: i16, max_version: i16) -> ApiVersionRanges {
        let mut response = ApiVersionsResponse::default();
        for api_key in [key.code(), 99, 1] {
            let entry = ApiVersion { api_key, min_version, max_version, ..Default::default() };
            response.api_keys.push(entry);
        }
        ApiVersionRanges::new(&response)
    }

    #[test]
    fn the_highest_common_version_is_chosen() {
        let best =
            |low, high, limit| offering(ApiKey::Produce, low, high).best::<ProduceRequest>(limit);
        assert_eq!(best(0, 9, i16::MAX), Some(9));
        assert_eq!(best(0, 9, 7), Some(7));
        assert_eq!(best(8, 9, 7), None, "the limit is below what is offered");
        assert_eq!(best(0, 2, i16::MAX), None, "too old for us");
        assert_eq!(best(90, 99, i16::MAX), None, "too new for us");
        assert_eq!(best(0, 99, i16::MAX), Some(ProduceRequest::MAX_VERSION));
        assert_eq!(ApiVersionRanges::default().best::<ProduceRequest>(i16::MAX), None);
    }

    #[test]
    fn an_unstable_version_is_not_chosen() {
        let offered = offering(ApiKey::InitProducerId, 0, 99);
        let best = offered.best::<InitProducerIdRequest>(i16::MAX);
        assert_eq!(best, Some(InitProducerIdRequest::MAX_VERSION - 1));
    }
}
