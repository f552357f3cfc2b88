//! The store suite on Postgres.

use std::sync::Arc;

use goflow_conformance::store::Fixture;
use goflow_core::TaskStore;
use goflow_postgres::Options;
use goflow_test_servers::Postgres;

struct Server(Postgres);

impl Fixture for Server {
    async fn open(&self, max_live: usize) -> Arc<dyn TaskStore> {
        let url = self.0.create_database().expect("a database");
        goflow_postgres::migrate(&url).await.expect("migrate");
        let options = Options {
            max_live,
            ..Options::new(url)
        };
        Arc::new(goflow_postgres::connect(options).await.expect("connect"))
    }
}

async fn start() -> Server {
    Server(Postgres::start().expect("a server"))
}

goflow_conformance::store_suite!(start, flavor = "multi_thread", worker_threads = 2);

mod only_postgres {
    use std::time::{Duration, Instant};

    use goflow_conformance::store::{PATIENCE, accept, get, outcome, spec, success};
    use goflow_core::State;
    use goflow_core::store::{Applied, Error};

    use super::*;

    /// Records outlive the server, and the connections come back by themselves.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn survives_a_restart() {
        let mut server = start().await;
        let store = server.open(1_000).await;
        let (done, open) = (accept(&*store, spec()).await, accept(&*store, spec()).await);
        goflow_conformance::store::apply(&*store, vec![outcome(done, 1, 1, success())]).await;
        server.0.kill_immediate().expect("kill");
        let begun = Instant::now();
        assert!(matches!(
            store.get(&done).await,
            Err(Error::Unavailable { .. })
        ));
        assert!(begun.elapsed() < Duration::from_millis(5_500));
        let begun = Instant::now();
        assert!(matches!(store.ping().await, Err(Error::Unavailable { .. })));
        assert!(begun.elapsed() < Duration::from_millis(2_500));
        server.0.start_again().expect("start");
        goflow_test_servers::eventually(PATIENCE, async || store.ping().await)
            .await
            .expect("back");
        assert_eq!(get(&*store, done).await.state, State::Succeeded);
        let applied =
            goflow_conformance::store::apply(&*store, vec![outcome(open, 1, 1, success())]).await;
        assert_eq!(applied, [Applied::Finished(State::Succeeded)]);
    }
}
