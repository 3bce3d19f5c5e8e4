//! What is decoded is what was encoded, and nothing that comes from the network does harm.

use proptest::prelude::*;

use super::*;

fn text() -> impl Strategy<Value = String> {
    "[a-z/äß日]{0,12}"
}

fn texts() -> impl Strategy<Value = Vec<String>> {
    proptest::collection::vec(text(), 0..4)
}

fn buffer() -> impl Strategy<Value = Buffer> {
    proptest::option::of(proptest::collection::vec(any::<u8>(), 0..20))
}

fn acl() -> impl Strategy<Value = Vec<Acl>> {
    let entry = (any::<i32>(), text(), text())
        .prop_map(|(perms, scheme, id)| Acl { perms, id: Id { scheme, id } });
    proptest::collection::vec(entry, 0..3)
}

fn stat() -> impl Strategy<Value = Stat> {
    (any::<[i64; 6]>(), any::<[i32; 5]>()).prop_map(|(long, short)| Stat {
        czxid: long[0],
        mzxid: long[1],
        ctime: long[2],
        mtime: long[3],
        version: short[0],
        cversion: short[1],
        aversion: short[2],
        ephemeral_owner: long[4],
        data_length: short[3],
        num_children: short[4],
        pzxid: long[5],
    })
}

fn create() -> impl Strategy<Value = CreateRequest> {
    (text(), buffer(), acl(), any::<i32>()).prop_map(|(path, data, acl, flags)| CreateRequest {
        path,
        data,
        acl,
        flags,
    })
}

/// The requests that may be part of a multi.
fn part() -> impl Strategy<Value = Request> {
    let versioned =
        || (text(), any::<i32>()).prop_map(|(path, version)| VersionedPath { path, version });
    let watched = || (text(), any::<bool>()).prop_map(|(path, watch)| WatchedPath { path, watch });
    prop_oneof![
        create().prop_map(Request::Create),
        create().prop_map(Request::Create2),
        create().prop_map(Request::CreateContainer),
        (create(), any::<i64>()).prop_map(|(create, ttl)| {
            let CreateRequest { path, data, acl, flags } = create;
            Request::CreateTtl(CreateTtlRequest { path, data, acl, flags, ttl })
        }),
        versioned().prop_map(Request::Delete),
        versioned().prop_map(Request::Check),
        (text(), buffer(), any::<i32>()).prop_map(|(path, data, version)| {
            Request::SetData(SetDataRequest { path, data, version })
        }),
        watched().prop_map(Request::GetData),
        watched().prop_map(Request::GetChildren),
    ]
}

fn request() -> impl Strategy<Value = Request> {
    let path = || text().prop_map(|path| PathRequest { path });
    let parts = || proptest::collection::vec(part(), 0..4).prop_map(|ops| MultiRequest { ops });
    let watches = || (text(), any::<i32>()).prop_map(|(path, kind)| WatchesRequest { path, kind });
    let set_watches = (any::<i64>(), texts(), texts(), texts(), texts()).prop_map(
        |(relative_zxid, data_watches, exist_watches, child_watches, persistent_watches)| {
            Request::SetWatches2(SetWatches2 {
                relative_zxid,
                data_watches,
                exist_watches,
                persistent_recursive_watches: child_watches.clone(),
                child_watches,
                persistent_watches,
            })
        },
    );
    prop_oneof![
        4 => part(),
        2 => parts().prop_map(Request::Multi),
        1 => parts().prop_map(Request::MultiRead),
        1 => path().prop_map(Request::Sync),
        1 => path().prop_map(Request::GetAcl),
        1 => path().prop_map(Request::GetEphemerals),
        1 => path().prop_map(Request::GetAllChildrenNumber),
        1 => path().prop_map(Request::DeleteContainer),
        1 => watches().prop_map(Request::CheckWatches),
        1 => watches().prop_map(Request::RemoveWatches),
        1 => set_watches,
        1 => (text(), acl(), any::<i32>()).prop_map(|(path, acl, version)| {
            Request::SetAcl(SetAclRequest { path, acl, version })
        }),
        1 => (any::<i32>(), text(), buffer()).prop_map(|(kind, scheme, auth)| {
            Request::Auth(AuthPacket { kind, scheme, auth })
        }),
        1 => buffer().prop_map(|token| Request::Sasl(SaslToken { token })),
        1 => Just(Request::Ping),
        1 => Just(Request::WhoAmI),
        1 => Just(Request::CloseSession),
    ]
}

/// The responses that may be part of the reply to a multi.
fn result() -> impl Strategy<Value = Response> {
    prop_oneof![
        text().prop_map(|path| Response::Create(PathResponse { path })),
        (text(), stat()).prop_map(|(path, stat)| Response::Create2(Create2Response { path, stat })),
        Just(Response::Delete),
        Just(Response::Check),
        stat().prop_map(|stat| Response::SetData(StatResponse { stat })),
        (buffer(), stat())
            .prop_map(|(data, stat)| Response::GetData(GetDataResponse { data, stat })),
        texts().prop_map(|children| Response::GetChildren(GetChildrenResponse { children })),
    ]
}

fn response() -> impl Strategy<Value = (i32, Response)> {
    let results = proptest::collection::vec(
        prop_oneof![3 => result().prop_map(Ok), 1 => any::<i32>().prop_map(Err)],
        0..4,
    );
    let info = (text(), text()).prop_map(|(auth_scheme, user)| ClientInfo { auth_scheme, user });
    prop_oneof![
        2 => result().prop_map(|response| (response.multi_op(), response)),
        2 => results.prop_map(|results| {
            (opcode::MULTI, Response::Multi(MultiResponse { results }))
        }),
        1 => (texts(), stat()).prop_map(|(children, stat)| {
            let response = GetChildren2Response { children, stat };
            (opcode::GET_CHILDREN2, Response::GetChildren2(response))
        }),
        1 => (acl(), stat()).prop_map(|(acl, stat)| {
            (opcode::GET_ACL, Response::GetAcl(GetAclResponse { acl, stat }))
        }),
        1 => proptest::collection::vec(info, 0..3).prop_map(|client_info| {
            (opcode::WHO_AM_I, Response::WhoAmI(WhoAmIResponse { client_info }))
        }),
    ]
}

fn encoded(write: impl FnOnce(&mut BytesMut)) -> BytesMut {
    let mut out = BytesMut::new();
    write(&mut out);
    out
}

proptest! {
    #[test]
    fn what_is_decoded_is_what_was_encoded(
        request in request(),
        (op, response) in response(),
        hello in (any::<i64>(), any::<i32>(), buffer(), proptest::option::of(any::<bool>())),
    ) {
        let bytes = encoded(|out| request.encode(out));
        let mut reader = Reader::new(&bytes);
        prop_assert_eq!(Request::decode(request.op(), &mut reader), Ok(Some(request)));
        prop_assert!(reader.is_empty());

        let bytes = encoded(|out| response.encode(out));
        let mut reader = Reader::new(&bytes);
        prop_assert_eq!(Response::decode(op, &mut reader), Ok(Some(response)));
        prop_assert!(reader.is_empty());

        let (session_id, time_out, passwd, read_only) = hello;
        let hello = ConnectRequest {
            protocol_version: 0,
            last_zxid_seen: session_id,
            time_out,
            session_id,
            passwd: passwd.clone(),
            read_only,
        };
        let bytes = encoded(|out| hello.encode(out));
        prop_assert_eq!(Reader::new(&bytes).read(), Ok(hello));
        let hello =
            ConnectResponse { protocol_version: 0, time_out, session_id, passwd, read_only };
        let bytes = encoded(|out| hello.encode(out));
        prop_assert_eq!(Reader::new(&bytes).read(), Ok(hello));
    }

    /// Every operation reads what was meant for another, with some bytes changed and some missing.
    #[test]
    fn changed_bytes_are_an_error_or_another_message(
        request in request(),
        (_, response) in response(),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        cut in any::<prop::sample::Index>(),
        op in -12..110_i32,
    ) {
        for message in [encoded(|out| request.encode(out)), encoded(|out| response.encode(out))] {
            let mut message = message.to_vec();
            message.truncate(cut.index(message.len() + 1));
            for (place, byte) in &changes {
                if !message.is_empty() {
                    let place = place.index(message.len());
                    message[place] = *byte;
                }
            }
            for op in [op, request.op()] {
                let _ = Request::decode(op, &mut Reader::new(&message));
                let _ = Response::decode(op, &mut Reader::new(&message));
            }
            let _ = Reader::new(&message).read::<ConnectRequest>();
            let _ = Reader::new(&message).read::<ConnectResponse>();
            let _ = Reader::new(&message).read::<WatcherEvent>();
        }
    }
}

#[test]
fn a_multi_of_too_many_parts_is_refused() {
    let part = Request::Delete(VersionedPath::default());
    let request = MultiRequest { ops: vec![part; MULTI_OPS_MAX + 1] };
    let bytes = encoded(|out| request.encode(out));
    let decoded: Result<MultiRequest, _> = Reader::new(&bytes).read();
    assert_eq!(decoded, Err(JuteError::TooMany { most: MULTI_OPS_MAX }));
}

#[test]
fn a_multi_holds_no_multi() {
    let inner = Request::Multi(MultiRequest::default());
    let bytes = encoded(|out| MultiRequest { ops: vec![inner] }.encode(out));
    let decoded: Result<MultiRequest, _> = Reader::new(&bytes).read();
    assert_eq!(decoded, Err(JuteError::Type { type_code: opcode::MULTI }));
}
