//! Memory that a task took and left goes back, whatever else the process does.

use std::hint::black_box;
use std::time::Duration;

const MIB: u64 = 1024 * 1024;

#[tokio::test]
async fn what_a_task_took_goes_back() {
    let resident = || {
        let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
        let resident = pages.split(' ').nth(1).unwrap();
        resident.parse::<u64>().unwrap() * 4096
    };
    let before = resident();
    drop(black_box(vec![1_u8; 64 << 20]));
    let gone = async {
        while resident() > before + 16 * MIB {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::select! {
        never = gf_process::memory::give_back() => match never {},
        gone = tokio::time::timeout(Duration::from_secs(20), gone) => gone.unwrap(),
    }
}
