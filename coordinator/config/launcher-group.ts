/** Where a process stands in its group, as LeaderWorkerSet or Slurm tells it. Pure: the environment is an argument. */

export interface LauncherGroup {
  /** Name or address of the leader's host. */
  readonly leader?: string;
  /** 0 is the leader. */
  readonly index?: number;
  /** Hosts, the leader among them. */
  readonly size?: number;
}

type Environment = Readonly<Record<string, string | undefined>>;

const numberOf = (text: string | undefined): number | undefined =>
  text !== undefined && /^\d{1,5}$/.test(text) ? Number(text) : undefined;

/** First of `a01`, `a[01-04,07]`, `a[1-2]-x,b3`. */
export const firstOfNodeList = (list: string): string => {
  const [, head = '', group, tail = ''] = /^([^,[]*)(?:\[([^\]]*)\]([^,]*))?/.exec(list) ?? [];
  return group === undefined ? head : `${head}${/^\d+/.exec(group)?.[0] ?? ''}${tail}`;
};

const known = (group: { [Key in keyof LauncherGroup]: LauncherGroup[Key] | undefined }): LauncherGroup => ({
  ...(group.leader ? { leader: group.leader } : {}),
  ...(group.index === undefined ? {} : { index: group.index }),
  ...(group.size === undefined ? {} : { size: group.size }),
});

/** LeaderWorkerSet goes before Slurm: a pod may run inside of a job, not the other way round. */
export const launcherGroupIn = (environment: Environment): LauncherGroup => {
  const { LWS_LEADER_ADDRESS, LWS_WORKER_INDEX, LWS_GROUP_SIZE } = environment;
  if (LWS_LEADER_ADDRESS !== undefined)
    return known({
      leader: LWS_LEADER_ADDRESS,
      index: numberOf(LWS_WORKER_INDEX),
      size: numberOf(LWS_GROUP_SIZE),
    });
  const { SLURM_PROCID, SLURM_NTASKS, SLURM_LAUNCH_NODE_IPADDR, SLURM_JOB_NODELIST } = environment;
  if (SLURM_PROCID === undefined) return {};
  return known({
    leader: SLURM_LAUNCH_NODE_IPADDR ?? firstOfNodeList(SLURM_JOB_NODELIST ?? ''),
    index: numberOf(SLURM_PROCID),
    size: numberOf(SLURM_NTASKS),
  });
};
