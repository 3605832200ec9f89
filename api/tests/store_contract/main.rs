//! The contract of `trait Store`: one suite, run on every store.
//!
//! SQLite runs always. Cassandra runs where `TIDEPOOL_TEST_CASSANDRA=host,host,host` names a cluster; else each of its
//! tests prints a line `tidepool-skip: <name>: <reason>`, which the runner counts.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod cassandra_only;
mod catalog;
mod collections;
mod concurrency;
mod database;
mod documents;
mod listing;
mod others;

use database::Database;

macro_rules! contract {
    ($($module:ident::$name:ident),* $(,)?) => {
        mod sqlite {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() {
                    let database = super::Database::sqlite();
                    super::$module::$name(&database).await;
                }
            )*
        }

        mod cassandra {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() {
                    let name = concat!("store_contract cassandra::", stringify!($name));
                    let Some(database) = super::Database::cassandra(name) else { return };
                    super::$module::$name(&database).await;
                }
            )*
        }
    };
}

contract! {
    documents::a_document_comes_back_as_it_was_written,
    documents::a_create_refuses_a_taken_id,
    documents::a_put_creates_and_replaces_under_its_precondition,
    documents::a_patch_changes_what_is_there_under_its_precondition,
    documents::a_delete_says_what_it_found,
    documents::a_version_never_recurs,
    documents::versions_grow_when_the_clock_goes_back,
    documents::updated_at_never_goes_back_with_the_clock,
    documents::another_collections_documents_are_not_seen,
    listing::pages_hold_every_document_once,
    listing::a_page_ends_at_its_bytes_but_holds_one_document,
    listing::an_unreadable_cursor_is_an_empty_page,
    listing::the_longest_ids_fit_a_cursor,
    listing::a_listing_stays_stable_while_others_write,
    listing::a_recreated_document_is_listed_whatever_the_clock_says,
    concurrency::one_writer_wins_each_version,
    concurrency::one_create_wins,
    concurrency::unconditional_puts_all_succeed,
    concurrency::patches_of_many_writers_are_all_applied,
    concurrency::one_delete_wins,
    concurrency::instances_see_each_others_writes,
    concurrency::ten_instances_may_open_at_once,
    collections::a_collection_is_made_and_its_settings_replaced,
    collections::collection_preconditions_hold_or_nothing_happens,
    collections::collections_are_listed_by_name,
    collections::a_collection_made_again_is_another_one,
    collections::making_again_waits_until_nobody_remembers_the_dropped_one,
    collections::one_of_many_makes_the_collection,
    catalog::a_dropped_collection_is_forgotten_by_every_instance,
    catalog::a_new_collection_can_be_used_at_once_everywhere,
    catalog::many_who_ask_at_once_cost_few_questions,
    others::keys_are_kept_by_name,
    others::a_store_that_had_keys_is_closed_until_it_is_opened,
    others::the_secret_is_one_for_all,
    others::a_store_that_works_is_ready,
    others::operations_are_timed,
}
