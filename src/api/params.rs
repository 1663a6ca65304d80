//! About whom is asked, and at what instant: the parameters of the operation, each checked, every violation told.

use hyper::HeaderMap;

use super::headers::{Field, X_SESSILE_NOW, X_TENANT_ID};
use super::problem::{Problem, Violation};
use super::router::decode_segment;
use super::words::Rule;
use crate::session::{IdFault, TenantId, UserId};
use crate::time::Timestamp;

const TENANT: &str = "X-Tenant-ID";
const USER: &str = "user_id";
const NOW: &str = "X-Sessile-Now";

/// The question that a request asks.
#[derive(Debug)]
pub struct Question<'r> {
    pub tenant: TenantId<'r>,
    pub user: UserId<'r>,
    /// The instant to answer for.
    pub at: Timestamp,
}

impl<'r> Question<'r> {
    /// Reads the parameters. `clock` is the instant to answer for unless, in development mode, the request says
    /// another.
    pub fn parse(
        headers: &'r HeaderMap,
        user_segment: &'r str,
        clock: Timestamp,
        development: bool,
    ) -> Result<Self, Problem> {
        match (
            tenant(headers),
            user(user_segment),
            instant(headers, clock, development),
        ) {
            (Ok(tenant), Ok(user), Ok(at)) => Ok(Self { tenant, user, at }),
            (tenant, user, at) => {
                let violations = [tenant.err(), user.err(), at.err()].into_iter().flatten();
                Err(Problem::invalid(violations.collect()))
            }
        }
    }
}

fn tenant(headers: &HeaderMap) -> Result<TenantId<'_>, Violation> {
    let of_headers = |violation: Violation| violation.with_header(headers, &X_TENANT_ID);
    let violation = match Field::of(headers, &X_TENANT_ID) {
        Field::Absent => Violation::required(TENANT),
        Field::Repeated
            if headers
                .get_all(&X_TENANT_ID)
                .iter()
                .all(|value| value.is_empty()) =>
        {
            Violation::required(TENANT)
        }
        Field::Repeated => Violation::duplicate(TENANT),
        Field::Once(value) => match value
            .to_str()
            .map_err(|_| IdFault::Character)
            .and_then(TenantId::new)
        {
            Ok(tenant) => return Ok(tenant),
            Err(fault) => id_violation(TENANT, fault, Rule::TenantId),
        },
    };
    Err(of_headers(violation))
}

fn user(segment: &str) -> Result<UserId<'_>, Violation> {
    let violation = match decode_segment(segment) {
        Ok(text) => match UserId::new(text) {
            Ok(user) => return Ok(user),
            Err(fault) => id_violation(USER, fault, Rule::UserId),
        },
        Err(_) => Violation::format(USER, Rule::PercentEncoding),
    };
    Err(violation.with_value(segment))
}

fn instant(
    headers: &HeaderMap,
    clock: Timestamp,
    development: bool,
) -> Result<Timestamp, Violation> {
    let violation = match Field::of(headers, &X_SESSILE_NOW) {
        Field::Absent => return Ok(clock),
        _ if !development => Violation::not_allowed(NOW, Rule::DevelopmentOnly),
        Field::Repeated => Violation::duplicate(NOW),
        Field::Once(value) => match value.to_str().ok().map(Timestamp::parse_rfc3339) {
            Some(Ok(instant)) => return Ok(instant),
            _ => Violation::format(NOW, Rule::Instant),
        },
    };
    Err(violation.with_header(headers, &X_SESSILE_NOW))
}

fn id_violation(field: &'static str, fault: IdFault, allowed: Rule) -> Violation {
    match fault {
        IdFault::Empty => Violation::required(field),
        IdFault::Character => Violation::format(field, allowed),
        IdFault::TooLong(_) => Violation::range(field, allowed),
    }
}
