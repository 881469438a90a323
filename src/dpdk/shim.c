#include "shim.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <rte_cycles.h>

uint16_t vipgate_rx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **frames, uint16_t count)
{
	return rte_eth_rx_burst(port, queue, frames, count);
}

uint16_t vipgate_tx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **frames, uint16_t count)
{
	return rte_eth_tx_burst(port, queue, frames, count);
}

int vipgate_alloc_bulk(struct rte_mempool *pool, struct rte_mbuf **frames, uint16_t count)
{
	return rte_pktmbuf_alloc_bulk(pool, frames, count);
}

uint64_t vipgate_cycles(void)
{
	return rte_rdtsc();
}

struct rte_mbuf *vipgate_alloc(struct rte_mempool *pool)
{
	return rte_pktmbuf_alloc(pool);
}

void vipgate_free(struct rte_mbuf *frame)
{
	rte_pktmbuf_free(frame);
}

int vipgate_errno(void)
{
	return rte_errno;
}

uint32_t vipgate_lcore(void)
{
	return rte_lcore_id();
}

int vipgate_link(uint16_t port, struct vipgate_link *link)
{
	struct rte_eth_link now;
	int result = rte_eth_link_get_nowait(port, &now);

	if (result != 0)
		return result;
	link->mbps = now.link_speed == RTE_ETH_SPEED_NUM_UNKNOWN ? 0 : now.link_speed;
	link->up = now.link_status == RTE_ETH_LINK_UP;
	link->full_duplex = now.link_duplex == RTE_ETH_LINK_FULL_DUPLEX;
	return 0;
}

int vipgate_rss(uint16_t port, struct vipgate_rss *rss)
{
	struct rte_eth_rss_reta_entry64 table[RTE_ETH_RSS_RETA_SIZE_512 / RTE_ETH_RETA_GROUP_SIZE];
	struct rte_eth_rss_conf conf = { .rss_key = rss->key };
	struct rte_eth_dev_info info;
	int result = rte_eth_dev_info_get(port, &info);

	if (result != 0)
		return result;
	if (info.hash_key_size > sizeof(rss->key) || info.reta_size == 0 || info.reta_size > RTE_ETH_RSS_RETA_SIZE_512)
		return -ENOTSUP;
	conf.rss_key_len = info.hash_key_size;
	result = rte_eth_dev_rss_hash_conf_get(port, &conf);
	if (result != 0)
		return result;
	memset(table, 0, sizeof(table));
	for (uint16_t i = 0; i < info.reta_size; i++)
		table[i / RTE_ETH_RETA_GROUP_SIZE].mask |= UINT64_C(1) << (i % RTE_ETH_RETA_GROUP_SIZE);
	result = rte_eth_dev_rss_reta_query(port, table, info.reta_size);
	if (result != 0)
		return result;
	for (uint16_t i = 0; i < info.reta_size; i++)
		rss->queues[i] = table[i / RTE_ETH_RETA_GROUP_SIZE].reta[i % RTE_ETH_RETA_GROUP_SIZE];
	rss->flows = conf.rss_hf;
	rss->entries = info.reta_size;
	rss->key_length = info.hash_key_size;
	return 0;
}

/* DPDK logs to a FILE and flushes it after each message, so the level is still that of this text. */
static ssize_t log_write(void *cookie, const char *text, size_t length)
{
	vipgate_log_sink *sink = (vipgate_log_sink *)cookie;

	sink((uint32_t)rte_log_cur_msg_loglevel(), text, length);
	return (ssize_t)length;
}

int vipgate_log_to(vipgate_log_sink *sink)
{
	cookie_io_functions_t functions = { .write = log_write };
	FILE *stream = fopencookie((void *)sink, "w", functions);

	return stream == NULL ? -1 : rte_openlog_stream(stream);
}
