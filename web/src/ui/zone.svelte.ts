/** Whether exact times are told in UTC instead of the reader's zone, everywhere on the page. */
export const zone = $state({ utc: false });
