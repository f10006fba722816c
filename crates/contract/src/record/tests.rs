use proptest::prelude::*;

use super::*;

type Fields = (Option<Vec<u8>>, Option<Vec<u8>>);

fn field() -> impl Strategy<Value = Option<Vec<u8>>> {
    proptest::option::of(proptest::collection::vec(any::<u8>(), 0..300))
}

proptest! {
    #[test]
    fn a_buffer_returns_the_records_pushed_into_it(records in proptest::collection::vec((field(), field()), 0..20)) {
        let mut buffer = RecordBuffer::default();
        for (key, value) in &records {
            buffer.push(key.as_deref(), value.as_deref());
        }
        let found: Vec<Fields> =
            buffer.records().map(|(key, value)| (key.map(<[u8]>::to_vec), value.map(<[u8]>::to_vec))).collect();
        prop_assert_eq!(found, records);
    }
}
