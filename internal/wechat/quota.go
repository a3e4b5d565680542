package wechat

import "time"

const (
	shanghai = 8 * 60 * 60 // seconds east of UTC; there has been no summer time since 1991
	day      = 24 * time.Hour
)

// QuotaResets returns when WeChat gives out the next day's quota, after
// ErrQuota at now: at the next midnight in Shanghai.
//
// Source: developers.weixin.qq.com/doc/offiaccount/Message_Management/API_Call_Limits.html
func QuotaResets(now time.Time) time.Time {
	year, month, date := now.In(time.FixedZone("Asia/Shanghai", shanghai)).Date()
	return time.Date(year, month, date, 0, 0, 0, 0, time.FixedZone("Asia/Shanghai", shanghai)).Add(day)
}

// RateResets returns when WeChat gives out the next minute's quota, after
// ErrRate at now: at the next full minute.
func RateResets(now time.Time) time.Time {
	return now.Truncate(time.Minute).Add(time.Minute)
}
