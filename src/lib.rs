pub mod dpdk;
