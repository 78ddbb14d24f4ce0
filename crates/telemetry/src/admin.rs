//! The admin HTTP endpoint: `/livez`, `/readyz`, `/metrics`.

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::Health;

/// Series that can be scraped.
pub trait Series: Clone + Send + Sync + 'static {
    /// The Prometheus text format of all of them. It may read the disk, so it may block for a moment.
    fn text(&self) -> Result<String, std::fmt::Error>;
}

/// Serves the three paths on `listener` until `stop` is cancelled.
///
/// # Errors
/// What the listener says when it can no longer accept.
pub async fn serve(
    listener: TcpListener,
    health: Health,
    series: impl Series,
    stop: CancellationToken,
) -> std::io::Result<()> {
    let live = health.clone();
    let app = Router::new()
        .route("/livez", get(move || async move { verdict(live.liveness()) }))
        .route("/readyz", get(move || async move { verdict(health.readiness()) }))
        .route("/metrics", get(move || render(series)));
    axum::serve(listener, app).with_graceful_shutdown(stop.cancelled_owned()).await
}

fn verdict(state: Result<(), String>) -> Response {
    match state {
        Ok(()) => (StatusCode::OK, "ok\n").into_response(),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")).into_response(),
    }
}

async fn render(series: impl Series) -> Response {
    // The store is asked for its numbers, which reads the disk.
    match tokio::task::spawn_blocking(move || series.text()).await {
        Ok(Ok(text)) => {
            ([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text)
                .into_response()
        }
        Ok(Err(error)) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Metrics;

    #[tokio::test]
    async fn probes_answer_by_state_and_stop_when_told() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let (health, stop) = (Health::new(), CancellationToken::new());
        health.waiting("store", "waiting for node.lock");
        let server = tokio::spawn(serve(listener, health.clone(), Metrics::new(), stop.clone()));
        let get = async |path: &str| reqwest::get(format!("{base}{path}")).await.unwrap();

        assert_eq!(get("/livez").await.status(), 200);
        let answer = get("/readyz").await;
        assert_eq!(answer.status(), 503);
        assert_eq!(answer.text().await.unwrap(), "store: waiting for node.lock\n");
        health.ready("store");
        assert_eq!(get("/readyz").await.status(), 200);
        assert!(get("/metrics").await.text().await.unwrap().contains("stowage_volumes"));
        health.dead("the writer thread is gone");
        assert_eq!(get("/livez").await.status(), 503);

        stop.cancel();
        server.await.unwrap().unwrap();
    }
}
