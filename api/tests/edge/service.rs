//! The public service around routes that misbehave.

use std::sync::Arc;

use poem::{Endpoint, Request, Response, endpoint};
use tidepool_api::config::{Config, Limits, Sources};
use tidepool_api::http::access::{Access, KeyRing};
use tidepool_api::keys::KeyFreshness;
use tidepool_api::lifecycle::{Lifecycle, Stage};
use tidepool_api::metrics::Metrics;
use tidepool_api::public::{PublicService, PublicServiceParts};
use tidepool_api::run::{nonce, now, wall_clock};
use tidepool_listener::{BoundSocket, Rooms, Server, TrustedHosts};

use super::harness::{Connection, SOON};

fn default_limits() -> Limits {
    let sources = Sources {
        flags: &[],
        config_flag: None,
        env_names: &Vec::new,
        env: &|_| None,
        read: &|_, _| Err(std::io::ErrorKind::NotFound.into()),
    };
    Config::load(&sources).unwrap().limits
}

async fn serve(
    routes: impl Endpoint<Output = Response> + 'static,
    ask: impl FnOnce(std::net::SocketAddr) + Send + 'static,
) -> Arc<Lifecycle> {
    let lifecycle = Arc::new(Lifecycle::default());
    lifecycle.advance(Stage::Serving);
    let service = Arc::new(PublicService::new(PublicServiceParts {
        endpoint: routes,
        metrics: Arc::new(Metrics::new().unwrap()),
        lifecycle: Arc::clone(&lifecycle),
        freshness: Arc::new(KeyFreshness::default()),
        limits: default_limits(),
        access: Arc::new(Access::new(KeyRing::Open, now)),
        trusted: TrustedHosts::default(),
        nonce,
    }));
    let socket = BoundSocket::bind(([127, 0, 0, 1], 0).into()).unwrap();
    let address = socket.address();
    let server = Server {
        name: "public",
        limits: default_limits().connections,
        rooms: Rooms::default(),
        stages: lifecycle.stages(),
        metrics: None,
        tls: None,
        clock: wall_clock(),
    };
    let running = tokio::spawn(server.run(socket.listen().unwrap(), service));
    tokio::task::spawn_blocking(move || ask(address)).await.unwrap();
    lifecycle.advance(Stage::Stopping);
    tokio::time::timeout(SOON, running).await.unwrap().unwrap();
    lifecycle
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_is_a_500_problem_and_the_connection_lives_on() {
    let routes = endpoint::make(|request: Request| async move {
        assert_eq!(request.uri().path(), "/good", "a defect");
        Response::builder().body("fine")
    });
    let lifecycle = serve(routes, |address| {
        let mut connection = Connection::open(address);
        for _ in 0..3 {
            let answer = connection.request("GET", "/bad", None, None);
            assert_eq!((answer.status, answer.problem().as_str()), (500, "internal"));
            let body = answer.json();
            assert_eq!(body["request_id"].as_str(), answer.header("x-request-id"));
            assert!(
                !answer.text().contains("defect"),
                "the panic's words are not the client's"
            );
            assert_eq!(connection.request("GET", "/good", None, None).text(), "fine");
        }
    })
    .await;
    assert_eq!(lifecycle.in_flight(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_away_leaves_nothing_in_flight() {
    let routes = endpoint::make(|_: Request| async move { std::future::pending::<Response>().await });
    let lifecycle = serve(routes, |address| {
        let mut connection = Connection::open(address);
        connection.write("GET /v1/collections HTTP/1.1\r\nHost: localhost\r\n\r\n");
        assert!(
            connection
                .closed_within(std::time::Duration::from_millis(300))
                .is_none()
        );
    })
    .await;
    assert_eq!(lifecycle.in_flight(), 0);
}
