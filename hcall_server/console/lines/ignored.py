"""Attributes and options that an emulated system accepts and ignores (spec/choices.md#the-consoles-lines).

They are about processors, memory, I/O and power.  An emulated system has none of these.
"""

# The names are listed one by one, so that a misspelt name is still refused (`line.attribute`, `line.option`).
# A pattern would also ignore the misspelt `keystore_kbyte`.  The script would go on without a keystore.

from __future__ import annotations

from collections.abc import Mapping

from hcall_server.console.options import Ignored

OF_PARTITIONS = frozenset(
    {
        "affinity_group_id",
        "allow_perf_collection",
        "boot_mode",
        "default_profile",
        "description",
        "lpar_avail_priority",
        "lpar_env",
        "lpar_keylock",
        "lpar_proc_compat_mode",
        "migration_disabled",
        "msp",
        "os_type",
        "power_ctrl_lpar_ids",
        "primary_paging_vios_name",
        "profile_name",
        "redundant_err_path_reporting",
        "remote_restart_capable",
        "secondary_paging_vios_name",
        "shared_proc_pool_util_auth",
        "suspend_capable",
        "sync_curr_profile",
        "time_ref",
        "virtual_serial_num",
        "vtpm_enabled",
        "vtpm_encryption",
        "vtpm_version",
        "work_group_id",
    }
)
"""Attributes of partitions."""

OF_PROFILES = frozenset(
    {
        "all_resources",
        "bsr_arrays",
        "conn_monitoring",
        "desired_huge_pages",
        "desired_io_pool_ids",
        "desired_mem",
        "desired_num_huge_pages",
        "desired_proc_units",
        "desired_procs",
        "electronic_err_reporting",
        "hardware_mem_encryption",
        "hardware_mem_expansion",
        "hca_adapters",
        "hpt_ratio",
        "io_slots",
        "lhea_capabilities",
        "lhea_logical_ports",
        "lpar_io_pool_ids",
        "max_mem",
        "max_num_huge_pages",
        "max_proc_units",
        "max_procs",
        "max_virtual_slots",
        "mem_expansion",
        "mem_mode",
        "min_mem",
        "min_num_huge_pages",
        "min_proc_units",
        "min_procs",
        "new_name",
        "physical_page_table_ratio",
        "powervm_mgmt_capable",
        "ppt_ratio",
        "proc_mode",
        "shared_proc_pool_id",
        "shared_proc_pool_name",
        "sharing_mode",
        "sni_device_ids",
        "sriov_eth_logical_ports",
        "sriov_roce_logical_ports",
        "uncap_weight",
        "virtual_eth_adapters",
        "virtual_eth_vsi_profiles",
        "virtual_fc_adapters",
        "virtual_scsi_adapters",
        "virtual_serial_adapters",
        "vnic_adapters",
        "vnic_vports",
        "xml_io",
    }
)
"""Attributes of partition profiles."""

# Each option has the kind of its value.  From the kind, the parser knows whether the next word belongs to the
# option.
_OF_MOVES: Mapping[str, Ignored] = {
    "-w": "number",
    "-d": "number",
    "-u": "value",
    "-i": "value",
    "-f": "value",
    "--redundantvios": "value",
    "--mpio": "value",
    "--vlanbridge": "value",
    "--redundantvnicbkdev": "value",
    "-v": "nothing",
    "--nodetails": "nothing",
    "--retaindev": "nothing",
}
OF_MIGRATIONS: Mapping[str, Ignored] = {
    **_OF_MOVES,
    "-n": "value",
    "--vsi": "value",
    "--uuid": "value",
    "--protectstorage": "value",
    "--npivportvalidation": "value",
    "--redundantpgvios": "value",
    "--vniccfg": "value",
    "--requirerr": "value",
    "--steps": "number",
    "--affinity": "nothing",
}
"""Options of migrlpar, with their kinds of values."""
OF_RESTARTS: Mapping[str, Ignored] = {**_OF_MOVES, "--noconnection": "nothing", "--usecurrdata": "nothing"}
"""Options of rrstartlpar.

--noconnection: a source that is away has no connection, and a connected one is refused all the same.
--usecurrdata: the copy that is restarted is always the last one of the console.
"""
