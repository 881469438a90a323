/*
 * What Rust needs of DPDK that is no symbol: twins of inline functions, constants built by macros,
 * and the offsets that src/dpdk/mbuf.rs checks its view of a packet against.
 */
#ifndef VIPGATE_SHIM_H
#define VIPGATE_SHIM_H

#include <stddef.h>
#include <stdint.h>

#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_lcore.h>
#include <rte_log.h>
#include <rte_malloc.h>
#include <rte_mbuf.h>
#include <rte_mempool.h>

/* Twins, called once per burst. */
uint16_t vipgate_rx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **frames, uint16_t count);
uint16_t vipgate_tx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **frames, uint16_t count);
int vipgate_alloc_bulk(struct rte_mempool *pool, struct rte_mbuf **frames, uint16_t count);
uint64_t vipgate_cycles(void);

/* Twins, called off the packet path. */
struct rte_mbuf *vipgate_alloc(struct rte_mempool *pool);
void vipgate_free(struct rte_mbuf *frame);
int vipgate_errno(void);
uint32_t vipgate_lcore(void);

/* The link state as plain fields; rte_eth_link is made of bit fields that changed over releases. */
struct vipgate_link {
	uint32_t mbps; /* 0 when unknown */
	uint8_t up;
	uint8_t full_duplex;
};
int vipgate_link(uint16_t port, struct vipgate_link *link);

/* What spreads packets over the queues of a started port, as plain fields. */
struct vipgate_rss {
	uint64_t flows; /* VIPGATE_RSS_*, and others */
	uint16_t entries;
	uint16_t queues[RTE_ETH_RSS_RETA_SIZE_512];
	uint8_t key_length;
	uint8_t key[64];
};
int vipgate_rss(uint16_t port, struct vipgate_rss *rss);

/* Sends every piece of log text, not NUL terminated, to `sink` on the thread that logs. */
typedef void vipgate_log_sink(uint32_t level, const char *text, size_t length);
int vipgate_log_to(vipgate_log_sink *sink);

static const uint32_t VIPGATE_LCORE_ANY = LCORE_ID_ANY;
static const uint32_t VIPGATE_MAX_PORTS = RTE_MAX_ETHPORTS;
static const uint32_t VIPGATE_PORT_NAME_SIZE = RTE_ETH_NAME_MAX_LEN;
static const uint16_t VIPGATE_HEADROOM = RTE_PKTMBUF_HEADROOM;

static const uint32_t VIPGATE_MQ_NONE = RTE_ETH_MQ_RX_NONE;
static const uint32_t VIPGATE_MQ_RSS = RTE_ETH_MQ_RX_RSS;
static const uint64_t VIPGATE_RSS_FLOWS =
	RTE_ETH_RSS_IP | RTE_ETH_RSS_TCP | RTE_ETH_RSS_UDP | RTE_ETH_RSS_SCTP;
/* Flows whose ports are hashed, and what makes of that something else than addresses and ports. */
static const uint64_t VIPGATE_RSS_TCP_V4 = RTE_ETH_RSS_NONFRAG_IPV4_TCP;
static const uint64_t VIPGATE_RSS_UDP_V4 = RTE_ETH_RSS_NONFRAG_IPV4_UDP;
static const uint64_t VIPGATE_RSS_SCTP_V4 = RTE_ETH_RSS_NONFRAG_IPV4_SCTP;
static const uint64_t VIPGATE_RSS_TCP_V6 = RTE_ETH_RSS_NONFRAG_IPV6_TCP;
static const uint64_t VIPGATE_RSS_UDP_V6 = RTE_ETH_RSS_NONFRAG_IPV6_UDP;
static const uint64_t VIPGATE_RSS_SCTP_V6 = RTE_ETH_RSS_NONFRAG_IPV6_SCTP;
static const uint64_t VIPGATE_RSS_SOURCE = RTE_ETH_RSS_L3_SRC_ONLY | RTE_ETH_RSS_L4_SRC_ONLY;
static const uint64_t VIPGATE_RSS_DESTINATION = RTE_ETH_RSS_L3_DST_ONLY | RTE_ETH_RSS_L4_DST_ONLY;

static const uint64_t VIPGATE_RX_IP_MASK = RTE_MBUF_F_RX_IP_CKSUM_MASK;
static const uint64_t VIPGATE_RX_IP_GOOD = RTE_MBUF_F_RX_IP_CKSUM_GOOD;
static const uint64_t VIPGATE_RX_IP_BAD = RTE_MBUF_F_RX_IP_CKSUM_BAD;
static const uint64_t VIPGATE_RX_IP_NONE = RTE_MBUF_F_RX_IP_CKSUM_NONE;
static const uint64_t VIPGATE_RX_L4_MASK = RTE_MBUF_F_RX_L4_CKSUM_MASK;
static const uint64_t VIPGATE_RX_L4_GOOD = RTE_MBUF_F_RX_L4_CKSUM_GOOD;
static const uint64_t VIPGATE_RX_L4_BAD = RTE_MBUF_F_RX_L4_CKSUM_BAD;
static const uint64_t VIPGATE_RX_L4_NONE = RTE_MBUF_F_RX_L4_CKSUM_NONE;

static const size_t VIPGATE_MBUF_BUF_ADDR = offsetof(struct rte_mbuf, buf_addr);
static const size_t VIPGATE_MBUF_DATA_OFF = offsetof(struct rte_mbuf, data_off);
static const size_t VIPGATE_MBUF_REFCNT = offsetof(struct rte_mbuf, refcnt);
static const size_t VIPGATE_MBUF_NB_SEGS = offsetof(struct rte_mbuf, nb_segs);
static const size_t VIPGATE_MBUF_OL_FLAGS = offsetof(struct rte_mbuf, ol_flags);
static const size_t VIPGATE_MBUF_PKT_LEN = offsetof(struct rte_mbuf, pkt_len);
static const size_t VIPGATE_MBUF_DATA_LEN = offsetof(struct rte_mbuf, data_len);
static const size_t VIPGATE_MBUF_BUF_LEN = offsetof(struct rte_mbuf, buf_len);

#endif
