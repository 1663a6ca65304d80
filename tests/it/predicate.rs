//! The predicate in Rust against the predicate in SQL, on a real file, and against the end that it tells, at every
//! boundary.

use proptest::prelude::*;
use sessile::session::{Leeway, Policy, Session, SessionId, TenantId, UserId};
use sessile::store::import::{Put, Scope};
use sessile::store::writer::{Writer, create};
use sessile::store::{Options, Reader, Snapshot};
use sessile::time::{Span, Timestamp};

const NOW: i64 = 1_795_435_200_000;

/// Instants near now, near now less a limit, and far from both, so that many fall on a boundary.
fn instant() -> impl Strategy<Value = i64> {
    let near = -2i64..=2;
    prop_oneof![
        4 => near.clone().prop_map(|off| NOW + off),
        2 => (near.clone(), limit(), leeway()).prop_map(|(off, limit, leeway)| NOW - limit - leeway + off),
        1 => (near, leeway()).prop_map(|(off, leeway)| NOW - leeway + off),
        1 => 0i64..4_000_000_000_000,
        1 => Just(i64::MAX),
        1 => Just(0),
    ]
}

fn limit() -> impl Strategy<Value = i64> {
    prop_oneof![
        Just(1i64),
        Just(900_000),
        Just(1_800_000),
        Just(43_200_000),
        Just(2_592_000_000)
    ]
}

fn leeway() -> impl Strategy<Value = i64> {
    prop_oneof![Just(0i64), Just(1), Just(60_000)]
}

fn policy() -> impl Strategy<Value = Policy> {
    let span = || proptest::option::of(limit().prop_map(Span::from_millis));
    (span(), span(), leeway()).prop_map(|(max_age, idle_timeout, leeway)| Policy {
        max_age,
        idle_timeout,
        leeway: Leeway::new(Span::from_millis(leeway)).unwrap(),
    })
}

fn session() -> impl Strategy<Value = Session> {
    let optional = || proptest::option::of(instant().prop_map(Timestamp::from_millis));
    let revoked = proptest::option::weighted(0.1, instant().prop_map(Timestamp::from_millis));
    (
        instant(),
        optional(),
        optional(),
        instant(),
        optional(),
        revoked,
    )
        .prop_map(
            |(created, authenticated_at, last_active_at, expires, idle_expires_at, revoked_at)| {
                Session {
                    tenant_id: TenantId::new("tenant").unwrap(),
                    id: SessionId::new("to be numbered").unwrap(),
                    user_id: UserId::new("user").unwrap(),
                    created_at: Timestamp::from_millis(created.min(expires)),
                    authenticated_at,
                    last_active_at,
                    expires_at: Timestamp::from_millis(expires),
                    idle_expires_at,
                    revoked_at,
                    revoke_reason: None,
                    amr: None,
                    device_id: None,
                    device_type: None,
                    ip: None,
                    user_agent: None,
                    geoip: None,
                }
            },
        )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_end_is_where_the_predicate_says(session in session(), policy in policy()) {
        let end = session.instants().end(&policy);
        let at = end.map_or(NOW, |end| end.at.as_millis());
        for now in (NOW - 3..=NOW + 3).chain(at.saturating_sub(3)..=at.saturating_add(3)).chain([0, i64::MAX]) {
            let now = Timestamp::from_millis(now);
            let is_over = end.is_some_and(|end| end.is_over_at(now));
            prop_assert_eq!(session.is_active_at(now, &policy), !is_over, "at {} by {:?}", now, end);
        }
    }

    #[test]
    fn sql_and_rust_agree(
        mut sessions in proptest::collection::vec(session(), 1..40),
        policies in proptest::collection::vec(policy(), 1..8),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sessions.db");
        create(&path).unwrap();
        let mut writer = Writer::open(&path).unwrap();
        let mut import = writer.import().unwrap();
        for (number, session) in sessions.iter_mut().enumerate() {
            session.id = SessionId::new(number.to_string()).unwrap();
            prop_assert_eq!(import.put(session).unwrap(), Put::New);
        }
        import
            .commit(Scope {
                words: "a test's sessions",
                tenant: None,
            })
            .unwrap();

        let reader = Reader::open(&path, Options { pool_size: 1, snapshot: Snapshot::Held }).unwrap();
        let (tenant, user) = (TenantId::new("tenant").unwrap(), UserId::new("user").unwrap());
        for policy in policies.iter().chain([&Policy::default()]) {
            for now in NOW - 3..=NOW + 3 {
                let now = Timestamp::from_millis(now);
                let counted = reader.count_blocking(&tenant, &user, &policy.cutoffs(now)).unwrap();
                let active = sessions.iter().filter(|session| session.is_active_at(now, policy)).count();
                prop_assert_eq!(counted, active as u64, "at {} under {:?}", now, policy);
            }
        }
    }
}
