//! The same question answered by axum and sqlx, as those who use them would write it: a pool, an extractor for the
//! caller, layers for the headers. `DATABASE` and `INTERNAL_API_KEY` come from the environment.

use std::error::Error;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::extract::{FromRequestParts, Path, State};
use axum::http::header::{CACHE_CONTROL, HeaderName, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use axum::http::request::Parts;
use axum::http::{Request, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::serve::ListenerExt;
use axum::{Json, Router};
use serde::Serialize;
use sqlx::SqlitePool;
use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};
use subtle::ConstantTimeEq;
use tower_http::request_id::{
    MakeRequestId, PropagateRequestIdLayer, RequestId, SetRequestIdLayer,
};
use tower_http::set_header::SetResponseHeaderLayer;
use uuid::Uuid;

/// sessile's own.
const COUNT: &str = "\
    SELECT count(*) FROM session INDEXED BY session_live
    WHERE tenant_id = ?1 AND user_id = ?2 AND revoked_at IS NULL
      AND expires_at > ?3
      AND (idle_expires_at IS NULL OR idle_expires_at > ?3)
      AND (?4 IS NULL OR coalesce(authenticated_at, created_at) > ?4)
      AND (?5 IS NULL OR coalesce(last_active_at, authenticated_at, created_at) > ?5)";

#[derive(Clone)]
struct App {
    pool: SqlitePool,
    key: &'static str,
}

#[derive(Serialize)]
struct ActiveSessionStatus {
    active: bool,
    session_count: i64,
}

enum Failure {
    Key,
    Parameter,
    Store,
}

#[derive(Serialize)]
struct Problem {
    title: &'static str,
    status: u16,
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let (status, title) = match self {
            Self::Key => (StatusCode::UNAUTHORIZED, "Invalid API Key"),
            Self::Parameter => (StatusCode::BAD_REQUEST, "Invalid Request Parameters"),
            Self::Store => (StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error"),
        };
        let problem = Problem {
            title,
            status: status.as_u16(),
        };
        (status, Json(problem)).into_response()
    }
}

/// A caller with the key, and the tenant it asks for.
struct Caller {
    tenant: String,
}

impl FromRequestParts<App> for Caller {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Failure> {
        let key = parts.headers.get("x-api-key").ok_or(Failure::Key)?;
        if !bool::from(key.as_bytes().ct_eq(app.key.as_bytes())) {
            return Err(Failure::Key);
        }
        let tenant = parts.headers.get("x-tenant-id").ok_or(Failure::Parameter)?;
        let tenant = tenant.to_str().map_err(|_| Failure::Parameter)?;
        if !(1..=128).contains(&tenant.len()) || !tenant.bytes().all(|byte| byte.is_ascii_graphic())
        {
            return Err(Failure::Parameter);
        }
        Ok(Self {
            tenant: tenant.to_owned(),
        })
    }
}

async fn active(
    State(app): State<App>,
    caller: Caller,
    Path(user): Path<String>,
) -> Result<Json<ActiveSessionStatus>, Failure> {
    if user.chars().count() > 256 || user.contains(char::is_control) {
        return Err(Failure::Parameter);
    }
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_err(|_| Failure::Store)?;
    let session_count: i64 = sqlx::query_scalar(COUNT)
        .bind(caller.tenant)
        .bind(user)
        .bind(i64::try_from(now.as_millis()).map_err(|_| Failure::Store)?)
        .bind(None::<i64>)
        .bind(None::<i64>)
        .fetch_one(&app.pool)
        .await
        .map_err(|_| Failure::Store)?;
    Ok(Json(ActiveSessionStatus {
        active: session_count > 0,
        session_count,
    }))
}

#[derive(Clone)]
struct NewId;

impl MakeRequestId for NewId {
    fn make_request_id<B>(&mut self, _: &Request<B>) -> Option<RequestId> {
        let id = format!("req_{}", Uuid::new_v4().hyphenated());
        HeaderValue::try_from(id).ok().map(RequestId::new)
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let database = SqliteConnectOptions::new()
        .filename(std::env::var("DATABASE")?)
        .read_only(true)
        .pragma("mmap_size", "1000000000");
    let pool = SqlitePoolOptions::new()
        // A connection is a thread of sqlx's: with more than these, answers come later and cost more.
        .max_connections(u32::try_from(std::thread::available_parallelism()?.get())?)
        // A file does not hang up, and the question whether it has would double the way to the thread and back.
        .test_before_acquire(false)
        .connect_with(database)
        .await?;
    let key = std::env::var("INTERNAL_API_KEY")?.leak();
    let x_request_id = HeaderName::from_static("x-request-id");
    let constant = SetResponseHeaderLayer::overriding;
    let app = Router::new()
        .route("/internal/session/sessions/{user_id}/active", get(active))
        .layer(constant(
            CACHE_CONTROL,
            HeaderValue::from_static("no-store"),
        ))
        .layer(constant(
            X_CONTENT_TYPE_OPTIONS,
            HeaderValue::from_static("nosniff"),
        ))
        .layer(PropagateRequestIdLayer::new(x_request_id.clone()))
        .layer(SetRequestIdLayer::new(x_request_id, NewId))
        .with_state(App { pool, key });
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await?;
    println!("listening on http://{}", listener.local_addr()?);
    let listener = listener.tap_io(|stream| {
        let _ = stream.set_nodelay(true);
    });
    axum::serve(listener, app).await?;
    Ok(())
}
