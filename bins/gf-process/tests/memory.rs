//! Memory that a task took and left goes back, whatever else the process does.

use std::hint::black_box;
use std::time::Duration;

const MIB: u64 = 1024 * 1024;

fn resident() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

#[tokio::test]
async fn what_a_task_took_goes_back() {
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
