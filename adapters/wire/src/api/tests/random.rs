//! Whatever a client sends, a handler neither panics nor makes an answer that its version cannot carry.

use std::net::Ipv4Addr;

use proptest::prelude::*;
use tokio::runtime::Builder;

use super::*;
use crate::budget::Budget;
use crate::checker::tests::bodies;
use crate::fake::FakeNode;
use crate::server::Listening;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn every_well_formed_request_is_answered((key, version, body) in bodies(), controller: bool) {
        let kind = if controller { ListenerKind::Controller } else { ListenerKind::Broker };
        let Some(api) = find(key, kind) else {
            return Ok(());
        };
        let request = Request {
            api,
            version,
            correlation_id: 1,
            client_id: None,
            body,
        };
        if !request.is_version_served() {
            return Ok(());
        }
        request.check(usize::MAX).unwrap();
        let runtime = Builder::new_current_thread().build().unwrap();
        let account = Budget::new(usize::MAX).open();
        let listener = Listening { name: "PLAINTEXT".into(), kind };
        let answer = runtime.block_on(execute(
            &Arc::new(FakeNode::default()),
            &listener,
            Ipv4Addr::LOCALHOST.into(),
            &account,
            &request,
        ));
        match answer {
            Ok(_) | Err(Refusal::Silently) => {}
            Err(refusal) => prop_assert!(false, "{refusal}"),
        }
    }
}
